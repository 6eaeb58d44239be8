import assert from "node:assert/strict";
import { testCompliance } from "../../virtio/compliance.ts";
import { VIRTIO_MMIO } from "../../virtio/mmio.ts";
import { Bench, Driver, FakeMemory } from "../../virtio/testing.ts";
import { BalloonDevice } from "./device.ts";

testCompliance({ name: "balloon", make: (host) => new BalloonDevice(host) });

const PAGE = 4096;
const START = 0x10_0000;

function setUp() {
  const bench = new Bench(new FakeMemory(1 << 20, START), (host) => new BalloonDevice(host));
  return { bench, driver: new Driver(bench).start(), device: bench.slot.device as BalloonDevice };
}

Deno.test("balloon gives the pages that the guest names back, runs at once", () => {
  const { bench, driver } = setUp();
  using _ = bench;
  const first = START / PAGE;
  const pages = [first + 9, first + 3, first + 4, first + 4, first + 5];
  driver.queues[0]!.add([driver.place(new Uint8Array(Uint32Array.from(pages).buffer))]);
  driver.kick(0);
  assert.deepEqual(bench.discarded, [[3 * PAGE, 3 * PAGE], [9 * PAGE, PAGE]]);
  assert.deepEqual(driver.queues[0]!.collect().map(({ length }) => length), [0]);
});

Deno.test("balloon leaves pages alone that are not RAM", () => {
  const { bench, driver } = setUp();
  using _ = bench;
  const pages = [0, START / PAGE - 1, (START + (1 << 20)) / PAGE, 0xffff_ffff];
  driver.queues[0]!.add([driver.place(new Uint8Array(Uint32Array.from(pages).buffer))]);
  driver.kick(0);
  assert.deepEqual(bench.discarded, []);
});

Deno.test("balloon gives reported free pages back, whole pages only", () => {
  const { bench, driver } = setUp();
  using _ = bench;
  driver.queues[2]!.add([
    { address: START + 16 * PAGE, length: 8 * PAGE, write: true },
    { address: START + 40 * PAGE + 100, length: 3 * PAGE, write: true },
  ]);
  driver.kick(2);
  assert.deepEqual(bench.discarded, [[16 * PAGE, 8 * PAGE], [41 * PAGE, 2 * PAGE]]);
});

Deno.test("balloon tells the guest its target and hears what it holds", () => {
  const { bench, driver, device } = setUp();
  using _ = bench;
  device.request({ pages: 1234 });
  assert.equal(driver.acknowledge().config, true);
  assert.equal(driver.read(VIRTIO_MMIO.CONFIG), 1234);
  driver.write(VIRTIO_MMIO.CONFIG + 4, 1200);
  assert.equal(device.counters().pages, 1200);
  driver.write(VIRTIO_MMIO.CONFIG, 1); // the target is not the guest's to write
  assert.equal(driver.read(VIRTIO_MMIO.CONFIG), 1234);
});
