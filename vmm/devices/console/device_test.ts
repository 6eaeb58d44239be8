import assert from "node:assert/strict";
import type { DeviceHost } from "../../virtio/device.ts";
import { testCompliance } from "../../virtio/compliance.ts";
import { VIRTIO_MMIO } from "../../virtio/mmio.ts";
import { Bench, Driver, FakeMemory } from "../../virtio/testing.ts";
import { ConsoleDevice } from "./device.ts";

testCompliance({ name: "console", make: (host) => new ConsoleDevice(host, () => {}) });

function setUp() {
  const output: Uint8Array[] = [];
  const make = (host: DeviceHost) => new ConsoleDevice(host, (bytes) => output.push(bytes));
  const bench = new Bench(new FakeMemory(), make);
  return { output, bench, device: bench.slot.device as ConsoleDevice };
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
  const { bench, device } = setUp();
  using _ = bench;
  device.input(new TextEncoder().encode("abc")); // before the driver is there
  const driver = new Driver(bench).start();
  device.input(new TextEncoder().encode("defgh"));
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
  let taken = 0;
  for (let i = 0; i < 64; i++) taken += device.input(new Uint8Array(64 * 1024));
  assert.equal(taken, 1 << 20);
});

Deno.test("console tells the guest its new size", () => {
  const { bench, device } = setUp();
  using _ = bench;
  const driver = new Driver(bench).start();
  const before = driver.read(VIRTIO_MMIO.CONFIG_GENERATION);
  device.resize({ columns: 132, rows: 50 });
  assert.equal(driver.acknowledge().config, true);
  assert.notEqual(driver.read(VIRTIO_MMIO.CONFIG_GENERATION), before);
  assert.equal(bench.transport.read(VIRTIO_MMIO.CONFIG, 2), 132);
  assert.equal(bench.transport.read(VIRTIO_MMIO.CONFIG + 2, 2), 50);
});
