import assert from "node:assert/strict";
import { testCompliance } from "../../virtio/compliance.ts";
import { VIRTIO_MMIO } from "../../virtio/mmio.ts";
import { Bench, Driver, FakeMemory } from "../../virtio/testing.ts";
import { PmemDevice } from "./device.ts";

const START = 256 * 2 ** 30;
const make = (host: ConstructorParameters<typeof PmemDevice>[0]) =>
  new PmemDevice(host, { start: START, size: 2 ** 21 });

testCompliance({ name: "pmem", make });

Deno.test("pmem tells where its window is", () => {
  using bench = new Bench(new FakeMemory(), make);
  const driver = new Driver(bench);
  const words = [0, 4, 8, 12].map((offset) => driver.read(VIRTIO_MMIO.CONFIG + offset));
  assert.deepEqual(words, [0, 64, 2 ** 21, 0]);
});

Deno.test("pmem answers a flush with success and anything else with an error", () => {
  using bench = new Bench(new FakeMemory(), make);
  const driver = new Driver(bench).start();
  const results = [0, 1, 77].map((type) => {
    const room = driver.room(4);
    driver.queues[0]!.add([driver.place(Uint8Array.of(type, 0, 0, 0)), room]);
    driver.kick(0);
    assert.equal(driver.queues[0]!.collect()[0]?.length, 4);
    return driver.bytesOf(room)[0];
  });
  assert.deepEqual(results, [0, 1, 1]);
});
