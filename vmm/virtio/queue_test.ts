import assert from "node:assert/strict";
import fc from "fast-check";
import { refuseLayout, VirtQueue } from "./queue.ts";
import { DriverQueue, FakeMemory } from "./testing.ts";

const START = 0x4000;

function setUp(size = 8, eventIndex = true): {
  memory: FakeMemory;
  driver: DriverQueue;
  device: VirtQueue;
} {
  const memory = new FakeMemory(1 << 16, START);
  const driver = new DriverQueue(memory, size, START);
  const device = new VirtQueue(memory, driver, eventIndex);
  return { memory, driver, device };
}

Deno.test("a chain comes out with its buffers in order and goes back with its length", () => {
  const { memory, driver, device } = setUp();
  memory.bytes.set([1, 2, 3, 4, 5], 0x1000);
  const head = driver.add([
    { address: START + 0x1000, length: 2 },
    { address: START + 0x1002, length: 3 },
    { address: START + 0x2000, length: 4, write: true },
    { address: START + 0x3000, length: 4, write: true },
  ]);
  assert(device.pop());
  assert.equal(device.head, head);
  assert.deepEqual([device.readable, device.writable], [2, 2]);
  assert.deepEqual([device.readableBytes, device.writableBytes], [5, 8]);
  const bytes = new Uint8Array(8);
  assert.equal(device.read(bytes, 1), 4);
  assert.deepEqual([...bytes.subarray(0, 4)], [2, 3, 4, 5]);
  assert.equal(device.write(Uint8Array.of(7, 8, 9), 3), 3);
  assert.equal(memory.bytes[0x2003], 7);
  assert.deepEqual([...memory.bytes.subarray(0x3000, 0x3003)], [8, 9, 0]);
  device.push(device.head, 6);
  assert.deepEqual(driver.collect(), []);
  device.publish();
  assert.deepEqual(driver.collect(), [{ head, length: 6 }]);
  assert(!device.pop());
});

Deno.test("the queue goes round its ring many times", () => {
  const { driver, device } = setUp(4);
  for (let i = 0; i < 70_000; i++) {
    const head = driver.add([{ address: START + 0x1000, length: 1, write: true }]);
    assert(device.pop());
    device.push(device.head, 1);
    device.publish();
    assert.deepEqual(driver.collect(), [{ head, length: 1 }]);
  }
});

Deno.test("a chain that was put back comes out again", () => {
  const { driver, device } = setUp();
  const head = driver.add([{ address: START + 0x1000, length: 1 }]);
  assert(device.pop());
  device.unpop();
  assert(device.hasAvailable());
  assert(device.pop());
  assert.equal(device.head, head);
});

Deno.test("a saved queue goes on where it was", () => {
  const { memory, driver, device } = setUp();
  driver.add([{ address: START + 0x1000, length: 1 }]);
  device.pop();
  device.push(device.head, 0);
  device.publish();
  driver.collect();
  const second = driver.add([{ address: START + 0x1000, length: 1 }]);
  const restored = new VirtQueue(memory, driver, true, device.save());
  assert(restored.pop());
  assert.equal(restored.head, second);
  restored.push(second, 0);
  restored.publish();
  assert.deepEqual(driver.collect(), [{ head: second, length: 0 }]);
});

Deno.test("with event indices the driver is interrupted just when it asked for it", () => {
  const { driver, device } = setUp(8);
  const give = () => {
    driver.add([{ address: START + 0x1000, length: 1 }]);
    assert(device.pop());
    device.push(device.head, 0);
  };
  driver.setUsedEvent(0); // after the first
  give();
  assert.equal(device.publish(), true);
  give();
  assert.equal(device.publish(), false); // not asked for again
  driver.setUsedEvent(4); // after the fifth
  give();
  assert.equal(device.publish(), false);
  give();
  give();
  assert.equal(device.publish(), true); // a batch that passes it
  assert.equal(device.publish(), false); // nothing new
});

Deno.test("without event indices the flags decide about interrupts and notifications", () => {
  const { memory, driver, device } = setUp(8, false);
  const flags = (address: number) => memory.view.getUint16(address - START, true);
  device.disableNotifications();
  assert.equal(flags(driver.used), 1);
  driver.add([{ address: START + 0x1000, length: 1 }]);
  assert.equal(device.enableNotifications(), true);
  assert.equal(flags(driver.used), 0);
  device.pop();
  device.push(device.head, 0);
  assert.equal(device.publish(), true);
  memory.view.setUint16(driver.available - START, 1, true); // VIRTQ_AVAIL_F_NO_INTERRUPT
  driver.add([{ address: START + 0x1000, length: 1 }]);
  device.pop();
  device.push(device.head, 0);
  assert.equal(device.publish(), false);
});

Deno.test("a layout is usable just when all three parts are aligned and in RAM", () => {
  const memory = new FakeMemory(1 << 16, START);
  const part = fc.integer({ min: 0, max: 1 << 17 });
  fc.assert(
    fc.property(fc.integer({ min: -1, max: 4096 }), part, part, part, (size, d, a, u) => {
      const refused = refuseLayout({ size, descriptors: d, available: a, used: u }, memory);
      const inside = (at: number, length: number) =>
        at >= START && at + length <= START + memory.size;
      const expected = size > 0 && Number.isInteger(Math.log2(size)) &&
        d % 16 === 0 && a % 2 === 0 && u % 4 === 0 && inside(d, 16 * size) &&
        inside(a, 6 + 2 * size) && inside(u, 6 + 8 * size);
      assert.equal(refused === undefined, expected);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("a chain may be as long as the queue and no longer", () => {
  const { driver, device } = setUp(8);
  const segment = { address: START + 0x1000, length: 1 };
  driver.add(Array.from({ length: 8 }, () => segment));
  assert(device.pop());
  assert.equal(device.readable, 8);
  device.push(device.head, 0);
  for (let i = 0; i < 8; i++) driver.descriptor(i, BigInt(START), 1, 1, (i + 1) % 8);
  driver.offer(3);
  assert(!device.pop());
  assert.equal(device.badChains, 1);
  device.publish();
  assert.equal(driver.collect().length, 2);
});

Deno.test("a queue whose available index runs wild gives nothing more", () => {
  for (const ahead of [9, 100, 0x8000, 0xffff]) {
    const { driver, device } = setUp(8);
    driver.add([{ address: START + 0x1000, length: 1 }]);
    assert(device.pop());
    device.push(device.head, 0);
    driver.setAvailableIndex(1 + ahead);
    assert(!device.pop());
    assert(device.broken);
    driver.setAvailableIndex(2); // too late
    assert(!device.pop());
    assert(!device.hasAvailable());
    device.publish();
    assert.equal(driver.collect().length, 1);
  }
});

Deno.test("as many chains as there are descriptors are not too many", () => {
  const { driver, device } = setUp(8);
  for (let i = 0; i < 8; i++) driver.add([{ address: START + 0x1000, length: 1 }]);
  for (let i = 0; i < 8; i++) assert(device.pop());
  assert(!device.pop());
  assert(!device.broken);
});
