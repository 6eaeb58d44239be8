import assert from "node:assert/strict";
import fc from "fast-check";
import { TokenBucket } from "../../base/token_bucket.ts";
import { addressOf } from "../../ffi/mapping.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { type Bandwidth, limited } from "./limited.ts";
import type { Link, NetworkPort } from "./link.ts";
import { FakeClock } from "./testing.ts";

Deno.test("a bucket gives no more than its rate and its burst, and all of that", () => {
  const step = fc.record({ wait: fc.nat(500), amount: fc.nat(40) });
  fc.assert(fc.property(fc.integer({ min: 1, max: 100 }), fc.array(step), (rate, steps) => {
    const burst = 50;
    const bucket = new TokenBucket(rate, burst, 0);
    let [now, model] = [0, burst];
    for (const { wait, amount } of steps) {
      now += wait;
      model = Math.min(burst, model + wait * rate / 1000);
      if (Math.abs(model - amount) < 1e-6) return; // a matter of rounding
      const got = bucket.take(amount, now);
      assert.equal(got, model >= amount);
      if (got) model -= amount;
    }
  }));
});

Deno.test("a bucket in debt says when it is out of it", () => {
  const bucket = new TokenBucket(100, 50, 0);
  bucket.spend(250, 0);
  assert.equal(bucket.debt(0), 2000);
  assert.equal(bucket.debt(1500), 500);
  assert.equal(bucket.debt(2000), 0);
  assert(!bucket.take(1, 2000));
  assert(bucket.take(1, 2020));
});

const bytes = new Uint8Array(65_536);

function frame(length: number): Pieces {
  const pieces = new Pieces();
  pieces.add(addressOf(bytes), length);
  return pieces;
}

/** A plug that sends as much as it can, through a limit. */
function world(settings: Bandwidth) {
  const clock = new FakeClock();
  let sent = 0;
  let got = 0;
  const link: Link = {
    mtu: 1500,
    largest: 65_549,
    reserve: (wanted) => frame(wanted),
    commit: (length) => void (sent += length),
  };
  const port = limited<Bandwidth>((inner) => {
    const fill = () => {
      for (let budget = 1000; budget > 0; budget--) {
        if (inner.reserve(1514) === undefined) return;
        inner.commit(1514);
      }
    };
    return {
      configure: () => {},
      receive: (frame) => void (got += frame.length),
      flush: () => {},
      ready: fill,
      reset: () => {},
      counters: () => ({}),
      save: () => [],
      restore: () => {},
      [Symbol.dispose]: () => {},
    } satisfies NetworkPort<Bandwidth>;
  }, clock)(link);
  port.configure(settings);
  return {
    clock,
    port,
    get sent() {
      return sent;
    },
    get got() {
      return got;
    },
  };
}

Deno.test("frames for the guest come at the rate, and go on by themselves", () => {
  const w = world({ bandwidth: 100_000 });
  w.port.ready();
  for (let ms = 0; ms < 10_000; ms += 5) w.clock.pass(5);
  // ten seconds, a burst of a tenth of one, and the last frame
  assert(Math.abs(w.sent - 1_010_000) < 2 * 1514, String(w.sent));
  assert.equal(w.port.holdOff!(), 0, "the other way has a limit of its own");
});

Deno.test("frames of the guest are held off for as long as they are too early", () => {
  const w = world({ bandwidth: 100_000 });
  const end = w.clock.now() + 10_000;
  while (w.clock.now() < end) {
    const wait = Math.ceil(w.port.holdOff!());
    if (wait === 0) w.port.receive(frame(1514));
    else w.clock.pass(wait);
  }
  assert(Math.abs(w.got - 1_010_000) < 3 * 1514 + 3000, String(w.got));
});

Deno.test("a frame that is larger than what passes at once passes, and is paid for", () => {
  const w = world({ bandwidth: 1000 });
  w.port.receive(frame(65_000));
  const wait = w.port.holdOff!();
  assert(Math.abs(wait - (65_000 - 1500)) < 2, String(wait));
});

Deno.test("without a bandwidth nothing waits, and other settings hold at once", () => {
  const w = world({});
  for (let i = 0; i < 1000; i++) w.port.receive(frame(65_000));
  assert.equal(w.port.holdOff!(), 0);
  w.port.configure({ bandwidth: 1000 });
  w.port.receive(frame(3000));
  assert(w.port.holdOff!() > 0);
  w.port.configure({});
  assert.equal(w.port.holdOff!(), 0);
});
