import assert from "node:assert/strict";
import type { Pieces } from "../../../ffi/pieces.ts";
import {
  type Link,
  MOST_FRAME,
  type NetworkPort,
  type Offload,
  sendFrame,
} from "../../net/link.ts";
import { testCompliance } from "../../virtio/compliance.ts";
import type { DeviceHost, DeviceState } from "../../virtio/device.ts";
import { VIRTIO_MMIO } from "../../virtio/mmio.ts";
import { Bench, Driver, FakeMemory } from "../../virtio/testing.ts";
import { NetDevice, type NetOptions } from "./device.ts";

const MAC = Uint8Array.of(2, 4, 6, 8, 10, 12);
const [RX, TX] = [0, 1];
const HEADER = 12;
const Bit = { GUEST_CSUM: 1n, GUEST_TSO4: 7n, MRG_RXBUF: 15n, EVENT_IDX: 29n };

/** What a device is plugged into: keeps what comes, sends what it is given. */
class FakePort implements NetworkPort<string> {
  readonly got: Uint8Array[] = [];
  readonly toSend: { frame: Uint8Array; offload?: Offload }[] = [];
  readonly told: string[] = [];
  state: DeviceState = [7];
  flushed = 0;
  /** Frames that may come before the port holds the guest off for a moment. */
  welcome = Infinity;

  constructor(readonly link: Link) {}

  holdOff(): number {
    return this.got.length < this.welcome ? 0 : 5;
  }

  configure(settings: string): void {
    this.told.push(settings);
  }

  receive(frame: Pieces): void {
    this.got.push(frame.bytes());
  }

  flush(): void {
    this.flushed++;
  }

  ready(): void {
    while (this.toSend.length > 0) {
      const { frame, offload } = this.toSend[0]!;
      if (!sendFrame(this.link, frame, offload)) return;
      this.toSend.shift();
    }
  }

  reset(): void {
    this.told.push("reset");
  }

  counters(): Readonly<Record<string, number>> {
    return { got: this.got.length };
  }

  save(): DeviceState {
    return this.state;
  }

  restore(state: DeviceState): void {
    this.state = state;
  }

  [Symbol.dispose](): void {
    this.told.push("end");
  }
}

const ports = new WeakMap<object, FakePort>();

function make(host: DeviceHost, options: Partial<NetOptions> = {}): NetDevice<string> {
  let port: FakePort | undefined;
  const device = new NetDevice<string>(
    host,
    { mac: MAC, mtu: 1500, up: true, ...options },
    (link) => port = new FakePort(link),
  );
  ports.set(device, port!);
  return device;
}

testCompliance({
  name: "net",
  make,
  sends: {
    [RX]: (bench) => {
      ports.get(bench.slot.device)!.toSend.push({ frame: new Uint8Array(60) });
      bench.slot.handleQueue(RX);
      ports.get(bench.slot.device)!.toSend.length = 0;
    },
  },
});

function setUp(options: Partial<NetOptions> = {}, without: readonly bigint[] = []) {
  const bench = new Bench(new FakeMemory(1 << 20, 0x10_0000), (host) => make(host, options));
  const driver = new Driver(bench);
  driver.start(without.reduce((features, bit) => features & ~(1n << bit), driver.offered));
  const device = bench.slot.device as NetDevice<string>;
  const port = ports.get(device)!;
  const send = (frame: Uint8Array, offload?: Offload) => {
    port.toSend.push({ frame, ...(offload !== undefined && { offload }) });
    bench.slot.handleQueue(RX);
    bench.turn();
  };
  return { bench, driver, device, port, send };
}

const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => i * 3 + (i >> 8));

Deno.test("net tells address, status and MTU, and interrupts when the link changes", () => {
  const { bench, driver, device } = setUp({ up: false });
  using _ = bench;
  const config = (offset: number, width: number) =>
    bench.transport.read(VIRTIO_MMIO.CONFIG + offset, width);
  assert.deepEqual(Array.from({ length: 6 }, (_, i) => config(i, 1)), [...MAC]);
  assert.deepEqual([config(6, 2), config(10, 2)], [0, 1500]);
  device.request({ up: true });
  assert.equal(config(6, 2), 1);
  assert.equal(driver.acknowledge().config, true);
  device.request({ up: true });
  assert.equal(driver.acknowledge().config, false, "nothing has changed");
  device.request({ up: false, settings: "other" });
  assert.equal(config(6, 2), 0);
  assert.equal(driver.acknowledge().config, true);
  assert.deepEqual(ports.get(device)!.told, ["other", "reset"]);
});

Deno.test("net passes frames of the guest on, however they are cut", () => {
  const { bench, driver, port } = setUp();
  using _ = bench;
  const frame = pattern(5000);
  const header = new Uint8Array(HEADER);
  const whole = driver.place(Uint8Array.of(...header, ...frame));
  for (const cuts of [[], [12], [5], [12, 26], [1, 13, 14, 3000]]) {
    const ends = [...cuts, whole.length];
    driver.queues[TX]!.add(ends.map((end, i) => {
      const from = i === 0 ? 0 : ends[i - 1]!;
      return { address: whole.address + from, length: end - from };
    }));
    driver.kick(TX);
    assert.deepEqual(port.got.pop(), frame, `${cuts}`);
  }
  assert.deepEqual(driver.queues[TX]!.collect().map(({ length }) => length), [0, 0, 0, 0, 0]);
});

Deno.test("net drops and counts frames of 3 and of 70,000 bytes, and with room for an answer", () => {
  const { bench, driver, device, port } = setUp();
  using _ = bench;
  const space = driver.allocate(80_000);
  for (const length of [0, 3, HEADER, HEADER + 3, HEADER + 13, HEADER + 70_000, HEADER + 65_550]) {
    driver.queues[TX]!.add([{ address: space, length }]);
    driver.kick(TX);
  }
  driver.queues[TX]!.add([{ address: space, length: 80 }, driver.room(20)]);
  driver.kick(TX);
  assert.deepEqual([port.got.length, device.counters().badFrames], [0, 8]);
  assert.equal(driver.queues[TX]!.collect().length, 8);
  for (const length of [14, MOST_FRAME]) {
    driver.queues[TX]!.add([{ address: space, length: HEADER + length }]);
    driver.kick(TX);
    assert.equal(port.got.pop()?.length, length);
  }
});

Deno.test("net spreads a frame over as many buffers as it needs, and tells their number", () => {
  const { bench, driver, port, send } = setUp();
  using _ = bench;
  assert.equal(port.link.largest, MOST_FRAME);
  const rooms = [100, 50, 300, 64, 2000, 2000].map((length) => driver.room(length));
  for (const room of rooms) driver.queues[RX]!.add([room]);
  const frame = pattern(420);
  const offload = { checksumStart: 34, checksumOffset: 16, segment: 100, headers: 54 };
  send(frame, offload);
  const used = driver.queues[RX]!.collect();
  assert.deepEqual(used.map(({ length }) => length), [100, 50, 282]);
  const bytes = used.flatMap(({ length }, i) => [...driver.bytesOf(rooms[i]!).subarray(0, length)]);
  // virtio_net_hdr: NEEDS_CSUM, TCPV4, 54, 100, 34, 16, 3 buffers
  assert.deepEqual(bytes.slice(0, HEADER), [1, 1, 54, 0, 100, 0, 34, 0, 16, 0, 3, 0]);
  assert.deepEqual(Uint8Array.from(bytes.slice(HEADER)), frame);
  send(pattern(40));
  assert.deepEqual(driver.queues[RX]!.collect().map(({ length }) => length), [52]);
});

Deno.test("net waits for buffers, and sends nothing in parts", () => {
  const { bench, driver, port, device, send } = setUp();
  using _ = bench;
  send(pattern(500));
  driver.queues[RX]!.add([driver.room(300)]);
  driver.kick(RX);
  assert.deepEqual(driver.queues[RX]!.collect(), []);
  assert.equal(port.toSend.length, 1);
  driver.queues[RX]!.add([driver.room(300)]);
  driver.kick(RX);
  assert.deepEqual(driver.queues[RX]!.collect().map(({ length }) => length), [300, 212]);
  assert.equal(device.counters().receivedFrames, 1);
  assert(device.counters().starved! > 0);
});

Deno.test("net without merged buffers takes one for each frame, and gives short ones back", () => {
  const { bench, driver, port, send } = setUp({}, [Bit.MRG_RXBUF]);
  using _ = bench;
  const rooms = [driver.room(300), driver.room(1600)];
  for (const room of rooms) driver.queues[RX]!.add([room]);
  send(pattern(1000));
  assert.equal(port.toSend.length, 0);
  assert.deepEqual(driver.queues[RX]!.collect().map(({ length }) => length), [0, 1012]);
  assert.deepEqual(
    driver.bytesOf(rooms[1]!).subarray(10, 1012),
    Uint8Array.of(1, 0, ...pattern(1000)),
  );
});

Deno.test("net completes checksums for a driver that wants them complete", () => {
  const { bench, driver, port, send } = setUp({}, [Bit.GUEST_CSUM]);
  using _ = bench;
  assert.equal(port.link.largest, 1514, "no segments without checksums (5.1.3.1)");
  const room = driver.room(200);
  driver.queues[RX]!.add([room]);
  const frame = new Uint8Array(21).fill(0xff, 14); // 14 bytes, then ff x 7 with a checksum at 2
  send(frame, { checksumStart: 14, checksumOffset: 2, segment: 0, headers: 14 });
  const got = driver.bytesOf(room).subarray(0, HEADER + 21);
  assert.deepEqual([...got.subarray(0, HEADER)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  // ffff + ffff + ffff + ff00 folds to ff00, of which the complement is 00ff
  assert.deepEqual([...got.subarray(HEADER + 14)], [255, 255, 0, 255, 255, 255, 255]);
});

Deno.test("net gives a turn no more than a megabyte, and goes on in the next", () => {
  const bench = new Bench(new FakeMemory(8 << 20, 0x10_0000), (host) => make(host));
  using _ = bench;
  const driver = new Driver(bench).start();
  const port = ports.get(bench.slot.device)!;
  for (let i = 0; i < 40; i++) driver.queues[RX]!.add([driver.room(66_000)]);
  for (let i = 0; i < 30; i++) port.toSend.push({ frame: new Uint8Array(65_000) });
  bench.slot.handleQueue(RX);
  assert.equal(driver.queues[RX]!.collect().length, 17);
  bench.poller.runOnce(0);
  assert.equal(driver.queues[RX]!.collect().length, 13);
});

Deno.test("net whose link is down takes frames and passes none on, and loses none of its own", () => {
  const { bench, driver, port, device, send } = setUp({ up: false });
  using _ = bench;
  driver.queues[TX]!.add([driver.place(new Uint8Array(80))]);
  driver.kick(TX);
  assert.deepEqual([driver.queues[TX]!.collect().length, port.got.length], [1, 0]);
  driver.queues[RX]!.add([driver.room(100)]);
  send(new Uint8Array(60));
  assert.deepEqual(driver.queues[RX]!.collect(), []);
  device.request({ up: true });
  bench.turn();
  assert.equal(driver.queues[RX]!.collect().length, 1);
});

Deno.test("net tells a restored guest that its link is another one, and only then", () => {
  const { bench } = setUp();
  using _ = bench;
  const saved = structuredClone(bench.slot.save());
  for (const up of [true, false]) {
    using other = new Bench(bench.memory, (host) => make(host, { up }));
    other.slot.state.restore(saved.transport);
    other.slot.restore(saved);
    assert.equal(other.transport.read(VIRTIO_MMIO.CONFIG + 6, 2), Number(up));
    assert.equal(other.transport.read(VIRTIO_MMIO.INTERRUPT_STATUS, 4), up ? 0 : 2);
    assert.deepEqual(ports.get(other.slot.device)!.state, [7]);
  }
});

Deno.test("net leaves frames of the guest in their queue while it is held off, and then goes on by itself", async () => {
  const { bench, driver, port } = setUp();
  using _ = bench;
  const header = new Uint8Array(HEADER);
  port.welcome = 2;
  for (let i = 0; i < 5; i++) {
    driver.queues[TX]!.add([driver.place(Uint8Array.of(...header, ...pattern(60 + i)))]);
  }
  driver.kick(TX);
  driver.kick(TX); // more of them change nothing
  bench.turn();
  assert.deepEqual(port.got.map(({ length }) => length), [60, 61]);
  assert.equal(driver.queues[TX]!.collect().length, 2);
  port.welcome = Infinity;
  for (let i = 0; i < 200 && port.got.length < 5; i++) {
    await new Promise((go) => setTimeout(go, 5));
    bench.turn();
  }
  assert.deepEqual(port.got.map(({ length }) => length), [60, 61, 62, 63, 64]);
  assert.equal(driver.queues[TX]!.collect().length, 3);
});
