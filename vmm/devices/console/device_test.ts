import assert from "node:assert/strict";
import { testCompliance } from "../../virtio/compliance.ts";
import { VIRTIO_MMIO } from "../../virtio/mmio.ts";
import { Bench, Driver, FakeMemory } from "../../virtio/testing.ts";
import { ConsoleDevice } from "./device.ts";

testCompliance({
  name: "console",
  make: (host) => new ConsoleDevice(host),
  sends: {
    0: ({ slot }) => slot.request({ kind: "input", bytes: Uint8Array.of(0x61) }),
  },
});

function setUp(memory = new FakeMemory()) {
  const bench = new Bench(memory, (host) => new ConsoleDevice(host));
  const output = bench.events as Uint8Array[];
  const device = bench.slot.device as ConsoleDevice;
  const type = (text: string) =>
    device.request({ kind: "input", bytes: new TextEncoder().encode(text) });
  return { output, bench, device, type };
}

Deno.test("console passes on what the guest writes, whatever its pieces", () => {
  const { output, bench } = setUp();
  using _ = bench;
  const driver = new Driver(bench).start();
  const text = (string: string) => driver.place(new TextEncoder().encode(string));
  driver.queues[1]!.add([text("Hel"), text("lo, ")]);
  driver.queues[1]!.add([text("wörld\n")]);
  driver.kick(1);
  const all = output.map((bytes) => new TextDecoder().decode(bytes)).join("");
  assert.equal(all, "Hello, wörld\n");
  assert.deepEqual(driver.queues[1]!.collect().map(({ length }) => length), [0, 0]);
});

Deno.test("console keeps input until the guest has room, in order", () => {
  const { bench, type } = setUp();
  using _ = bench;
  type("abc"); // before the driver is there
  const driver = new Driver(bench).start();
  type("defgh");
  const rooms = Array.from({ length: 4 }, () => driver.room(2));
  for (const room of rooms) driver.queues[0]!.add([room]);
  driver.kick(0);
  const used = driver.queues[0]!.collect();
  const text = used.map(({ length }, i) =>
    new TextDecoder().decode(driver.bytesOf(rooms[i]!).subarray(0, length))
  ).join("");
  assert.equal(text, "abcdefg"); // "ab", "c", "de", "fg": no buffer for "h"
  const last = driver.room(8);
  driver.queues[0]!.add([last]);
  driver.kick(0);
  assert.deepEqual(driver.queues[0]!.collect().map(({ length }) => length), [1]);
  assert.equal(driver.bytesOf(last)[0], "h".charCodeAt(0));
});

Deno.test("console input is bounded while nobody reads", () => {
  const { bench, device } = setUp();
  using _ = bench;
  for (let i = 0; i < 64; i++) device.request({ kind: "input", bytes: new Uint8Array(64 * 1024) });
  assert.equal(device.counters().inputBytes, 1 << 20);
});

Deno.test("console tells the guest its new size", () => {
  const { bench, device } = setUp();
  using _ = bench;
  const driver = new Driver(bench).start();
  const before = driver.read(VIRTIO_MMIO.CONFIG_GENERATION);
  device.request({ kind: "resize", size: { columns: 132, rows: 50 } });
  assert.equal(driver.acknowledge().config, true);
  assert.notEqual(driver.read(VIRTIO_MMIO.CONFIG_GENERATION), before);
  assert.equal(bench.transport.read(VIRTIO_MMIO.CONFIG, 2), 132);
  assert.equal(bench.transport.read(VIRTIO_MMIO.CONFIG + 2, 2), 50);
});

Deno.test("console output waits in the queue while the main thread takes none", () => {
  const { bench, device, output } = setUp(new FakeMemory(2 << 20));
  using _ = bench;
  const driver = new Driver(bench).start();
  const room = driver.allocate(64 * 1024);
  const fill = (value: number) => bench.memory.bytes.fill(value, room, room + 64 * 1024);
  const count = () => output.reduce((sum, { length }) => sum + length, 0);
  let given = 0;
  for (let i = 0; i < 40; i++) {
    fill(i);
    driver.queues[1]!.add([{ address: room, length: 64 * 1024 }]);
    driver.kick(1);
    given += driver.queues[1]!.collect().length;
  }
  assert.equal(count(), 1 << 20);
  assert.equal(given, 16, "buffers come back when their bytes are on their way");

  // The main thread takes the first event, and the guest's next chain comes: it has 39 by now.
  device.request({ kind: "taken", length: output[0]!.length });
  assert.equal(count(), (1 << 20) + 64 * 1024);
  assert.equal(output.at(-1)![0], 39);
  for (let taken = 1; taken < output.length; taken++) {
    device.request({ kind: "taken", length: output[taken]!.length });
  }
  bench.turn();
  assert.equal(count(), 40 * 64 * 1024);
  assert.equal(driver.queues[1]!.collect().length, 40 - given);
});

Deno.test("console output byte by byte is bounded by the number of events", () => {
  const { bench, output } = setUp();
  using _ = bench;
  const driver = new Driver(bench).start();
  const byte = driver.place(Uint8Array.of(0x61));
  let given = 0;
  for (let i = 0; i < 1060; i++) {
    driver.queues[1]!.add([byte]);
    driver.kick(1);
    given += driver.queues[1]!.collect().length;
  }
  assert.equal(output.length, 1024);
  assert.equal(given, 1024);
});
