import assert from "node:assert/strict";
import fc from "fast-check";
import { TcpFlag } from "../wire/tcp.ts";
import { type Scenario, Simulation } from "./testing.ts";

const QUIET: Omit<Scenario, "up" | "down"> = {
  guestSequence: 1000,
  ourSequence: 5000,
  mss: 1460,
  guestBuffer: 65_536,
  scale: 7,
  queue: 1 << 20,
  unit: 64_240,
  serverTakes: 1 << 20,
  guestTakes: 1 << 20,
  pace: 1,
  fate: () => 1,
  lost: 0,
  twice: 0,
  delayed: 0,
};

function bytes(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed) & 255);
}

/** Numbers from 0 to 1 (xorshift32). */
function randomNumbers(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

function assertComplete(simulation: Simulation, { up, down }: Scenario, what: string): void {
  assert.deepEqual(Uint8Array.from(simulation.serverGot), up, `${what}: up`);
  assert.deepEqual(Uint8Array.from(simulation.guestGot), down, `${what}: down`);
  assert(simulation.serverSawEnd && simulation.guestSawEnd, `${what}: the ends`);
  assert.equal(simulation.closed, "finished", what);
  assert.equal(simulation.guestSawReset, false, what);
  assert.equal(simulation.connection.timer, undefined);
}

Deno.test("all bytes go both ways, none of them twice, over a link that loses none", () => {
  const scenario = { ...QUIET, up: bytes(300_000, 1), down: bytes(700_000, 2) };
  const simulation = new Simulation(scenario);
  simulation.run(60_000);
  assertComplete(simulation, scenario, "quiet");
  assert.equal(simulation.sentBytes, scenario.down.length, "nothing was sent again");
});

Deno.test("all bytes go both ways whatever the link, the windows, the numbers and the pace", () => {
  const rate = fc.constantFrom(0, 0, 0.05, 0.2);
  fc.assert(
    fc.property(
      fc.record({
        up: fc.nat(20_000).map((length) => bytes(length, 1)),
        down: fc.nat(20_000).map((length) => bytes(length, 2)),
        guestSequence: fc.constantFrom(0, 0xffff_f000, 0xffff_ffff, 0x7fff_ff00),
        ourSequence: fc.constantFrom(0, 0xffff_f000, 0xffff_ffff, 0x7fff_ff00),
        mss: fc.constantFrom(1460, 536, 100),
        guestBuffer: fc.constantFrom(65_536, 5000, 300),
        scale: fc.constantFrom(undefined, 0, 7),
        queue: fc.constantFrom(1 << 20, 4000, 500),
        unit: fc.constantFrom(64_240, 1460, 99),
        serverTakes: fc.constantFrom(1 << 20, 700),
        guestTakes: fc.constantFrom(1 << 20, 400),
        pace: fc.constantFrom(1, 3),
        lost: rate,
        twice: rate,
        delayed: rate,
      }),
      fc.nat(0xffff_ffff),
      (random, seed) => {
        // A guest that scales cannot tell of less than 128 bytes.
        const guestBuffer = Math.max(random.guestBuffer, (random.scale ?? 0) > 0 ? 1000 : 0);
        const scenario = { ...random, guestBuffer, fate: randomNumbers(seed) };
        const simulation = new Simulation(scenario);
        simulation.run(3_000_000);
        // The last acknowledgment may be lost, and with it the guest's reason to repeat it.
        if (simulation.closed === "timed-out" && random.lost > 0) {
          assert.deepEqual(Uint8Array.from(simulation.serverGot), scenario.up);
          assert.deepEqual(Uint8Array.from(simulation.guestGot), scenario.down);
          return;
        }
        assertComplete(simulation, scenario, JSON.stringify({ ...random, up: 0, down: 0 }));
      },
    ),
    { numRuns: 150 },
  );
});

Deno.test("a server that cannot be reached is a reset at once, and nothing is left", () => {
  const simulation = new Simulation({ ...QUIET, up: bytes(10, 1), down: bytes(0, 2) });
  simulation.run(1000, () => false);
  assert.deepEqual([simulation.closed, simulation.guestSawReset], ["refused", true]);
  assert.equal(simulation.connection.timer, undefined);
});

Deno.test("a guest that goes silent is given up, in each state", () => {
  for (const down of [0, 5000]) {
    const scenario = { ...QUIET, up: bytes(0, 1), down: bytes(down, 2) };
    let segments = 0;
    // The first segments arrive, then nothing does.
    for (let alive = 0; alive < 8; alive++) {
      segments = 0;
      const fate = () => segments++ < alive * 3 ? 1 : 0;
      const simulation = new Simulation({ ...scenario, lost: 0.5, fate });
      simulation.run(9_000_000);
      assert(simulation.closed !== undefined, `${down} bytes, ${alive} segments`);
      assert.equal(simulation.connection.timer, undefined);
    }
  }
});

Deno.test("no segment makes it throw, and its promises stay in their bounds", () => {
  const segment = fc.record({
    sequence: fc.oneof(fc.nat(0xffff_ffff), fc.integer({ min: 900, max: 1200 })),
    acknowledgment: fc.oneof(fc.nat(0xffff_ffff), fc.integer({ min: 4990, max: 5300 })),
    flags: fc.nat(63),
    window: fc.nat(0xffff),
    length: fc.nat(3000),
    wait: fc.nat(3000),
  });
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 60 }), (segments) => {
      const down = bytes(200, 3);
      const simulation = new Simulation({ ...QUIET, up: bytes(0, 1), down, queue: 4000 });
      const { connection } = simulation;
      connection.dialed(0);
      connection.readable(down.length, true, 0);
      let now = 0;
      for (const { length, wait, ...header } of segments) {
        now += wait;
        const ports = { source: 40_000, destination: 80, headerLength: 20 };
        connection.segment({ ...ports, ...header }, length, now);
        connection.tick(now);
        assert(connection.waiting >= 0 && connection.waiting <= 4000 + 128);
        if (connection.state === "closed") break;
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("only a reset with the number that is expected ends a connection", () => {
  const simulation = new Simulation({ ...QUIET, up: bytes(0, 1), down: bytes(0, 2) });
  const { connection } = simulation;
  connection.dialed(0);
  const ports = { source: 40_000, destination: 80, headerLength: 20 };
  const header = { ...ports, acknowledgment: 5001, window: 100 };
  connection.segment({ ...header, sequence: 1001, flags: TcpFlag.ACK }, 0, 1);
  assert.equal(connection.state, "established");
  for (const sequence of [1000, 1002, 900_000_000]) {
    connection.segment({ ...header, sequence, flags: TcpFlag.RST }, 0, 1);
    assert.equal(connection.state, "established");
  }
  connection.segment({ ...header, sequence: 1001, flags: TcpFlag.RST }, 0, 1);
  assert.deepEqual([connection.state, simulation.closed], ["closed", "reset"]);
});
