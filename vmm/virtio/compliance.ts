/**
 * What holds for every virtio device; each device's test runs it.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Device, DeviceHost } from "./device.ts";
import { Feature, Status, VIRTIO_MMIO } from "./mmio.ts";
import { Word } from "./state.ts";
import { Bench, Driver, type DriverQueue, FakeMemory } from "./testing.ts";

const { ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, DEVICE_NEEDS_RESET, FAILED } = Status;
const LIVE = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
const START = 0x10_0000;

/** How to make the device under test. */
export interface Candidate {
  /** Name for the tests. */
  readonly name: string;
  /** Makes a new device; called several times in a test. */
  readonly make: (host: DeviceHost) => Device<unknown>;
  /**
   * Queues that the device looks at only when it has something for the guest, and what makes it have
   * something; null where that takes more than a driver.
   */
  readonly sends?: Readonly<Record<number, Prompt | null>>;
}

/** Has a device that is at work send something. */
export type Prompt = (bench: Bench, driver: Driver) => void;

/** Far from every index that a test reaches: no interrupt is wanted. */
const NEVER = 0x8000;

/** Registers the tests. */
export function testCompliance({ name, make, sends = {} }: Candidate): void {
  /** Calls `body` for each queue that the device looks at, with what makes it look. */
  const eachQueue = (
    bench: Bench,
    driver: Driver,
    body: (queue: DriverQueue, look: () => void) => void,
  ) => {
    for (const index of bench.slot.device.queueSizes.keys()) {
      const prompt = sends[index];
      if (prompt === null) continue;
      driver.start();
      driver.acknowledge();
      for (const queue of driver.queues) queue.setUsedEvent(NEVER);
      body(driver.queues[index]!, () => {
        driver.kick(index);
        prompt?.(bench, driver);
        bench.turn();
      });
    }
  };
  /** Interrupt edges that come while some time passes: an interrupt may be lazy. */
  const edges = (bench: Bench, wanted: number) => {
    const before = bench.interrupts;
    return (during: () => void) => {
      during();
      const patience = wanted === 0 ? 3 : 200;
      for (let i = 0; i < patience && (wanted === 0 || bench.interrupts === before); i++) {
        bench.poller.runOnce(10);
      }
      return bench.interrupts - before;
    };
  };
  const test = (what: string, body: (bench: Bench, driver: Driver) => void) =>
    Deno.test(`${name}: ${what}`, () => {
      const memory = new FakeMemory(1 << 20, START);
      using bench = new Bench(memory, make);
      body(bench, new Driver(bench));
      memory.checkGuards();
      assert.deepEqual(bench.warnings.filter((text) => text.includes("failed")), []);
    });

  test("shows itself as a virtio-mmio device of version 2", (bench, driver) => {
    assert.equal(driver.read(VIRTIO_MMIO.MAGIC_VALUE), 0x74726976);
    assert.equal(driver.read(VIRTIO_MMIO.VERSION), 2);
    assert.equal(driver.read(VIRTIO_MMIO.DEVICE_ID), bench.slot.device.deviceId);
    assert.equal(driver.offered, bench.slot.device.features);
    assert.equal(driver.offered >> Feature.VERSION_1 & 1n, 1n);
  });

  test("answers accesses of a wrong width or place with 0 and ignores such writes", (bench) => {
    const { transport } = bench;
    for (const width of [1, 2, 8]) {
      assert.equal(transport.read(VIRTIO_MMIO.MAGIC_VALUE, width), 0);
      transport.write(VIRTIO_MMIO.STATUS, width, ACKNOWLEDGE);
    }
    assert.equal(transport.read(VIRTIO_MMIO.STATUS, 4), 0);
    assert.equal(transport.read(VIRTIO_MMIO.MAGIC_VALUE + 2, 4), 0);
    assert.equal(transport.read(0xffc, 4), 0);
    transport.write(0xffc, 4, 0xffff_ffff);
  });

  test("takes the states of a driver in their order only", (_bench, driver) => {
    for (const value of [DRIVER, LIVE, FEATURES_OK, ACKNOWLEDGE | FEATURES_OK]) {
      driver.write(VIRTIO_MMIO.STATUS, value);
      assert.equal(driver.read(VIRTIO_MMIO.STATUS), 0);
    }
    driver.start();
    assert.equal(driver.read(VIRTIO_MMIO.STATUS), LIVE);
    driver.write(VIRTIO_MMIO.STATUS, ACKNOWLEDGE); // bits may not be taken back
    assert.equal(driver.read(VIRTIO_MMIO.STATUS), LIVE);
    driver.write(VIRTIO_MMIO.STATUS, LIVE | FAILED);
    assert.equal(driver.read(VIRTIO_MMIO.STATUS), LIVE | FAILED);
    driver.write(VIRTIO_MMIO.STATUS, 0);
    assert.equal(driver.read(VIRTIO_MMIO.STATUS), 0);
  });

  test("refuses features that it did not offer, and drivers before virtio 1", (bench, driver) => {
    const unoffered = Array.from({ length: 64 }, (_, bit) => 1n << BigInt(bit))
      .filter((bit) => (bench.slot.device.features & bit) === 0n);
    for (const bit of unoffered) {
      driver.negotiate(1n << Feature.VERSION_1 | bit);
      assert.equal(driver.read(VIRTIO_MMIO.STATUS) & FEATURES_OK, 0);
    }
    driver.negotiate(0n);
    assert.equal(driver.read(VIRTIO_MMIO.STATUS) & FEATURES_OK, 0);
  });

  test("does not take a queue that is too large, crooked or outside of RAM", (bench, driver) => {
    const { memory } = bench;
    const end = memory.start + memory.size;
    driver.negotiate(driver.offered);
    driver.write(VIRTIO_MMIO.QUEUE_SEL, 0);
    const maximum = driver.read(VIRTIO_MMIO.QUEUE_NUM_MAX);
    assert(maximum > 0 && (maximum & (maximum - 1)) === 0);
    const attempt = (size: number, descriptors: number, available: number, used: number) => {
      driver.write(VIRTIO_MMIO.QUEUE_NUM, size);
      driver.write(VIRTIO_MMIO.QUEUE_DESC_LOW, descriptors);
      driver.write(VIRTIO_MMIO.QUEUE_AVAIL_LOW, available);
      driver.write(VIRTIO_MMIO.QUEUE_USED_LOW, used);
      driver.write(VIRTIO_MMIO.QUEUE_READY, 1);
      return driver.read(VIRTIO_MMIO.QUEUE_READY);
    };
    const at = memory.start;
    assert.equal(attempt(2 * maximum, at, at + 0x8000, at + 0x10000), 0);
    assert.equal(attempt(0, at, at + 0x8000, at + 0x10000), 0);
    assert.equal(attempt(3, at, at + 0x8000, at + 0x10000), 0);
    assert.equal(attempt(8, at + 8, at + 0x8000, at + 0x10000), 0);
    assert.equal(attempt(8, at, at + 0x8001, at + 0x10000), 0);
    assert.equal(attempt(8, at, at + 0x8000, at + 0x10002), 0);
    assert.equal(attempt(8, end - 64, at + 0x8000, at + 0x10000), 0);
    assert.equal(attempt(8, at, at - 4096, at + 0x10000), 0);
    assert.equal(attempt(8, at, at + 0x8000, end - 4), 0);
    driver.write(VIRTIO_MMIO.QUEUE_USED_HIGH, 0xffff_ffff);
    assert.equal(attempt(8, at, at + 0x8000, at + 0x10000), 0);
    driver.write(VIRTIO_MMIO.QUEUE_USED_HIGH, 0);
    assert.equal(attempt(8, at, at + 0x8000, at + 0x10000), 1);
    driver.write(VIRTIO_MMIO.QUEUE_SEL, bench.slot.device.queueSizes.length);
    assert.equal(driver.read(VIRTIO_MMIO.QUEUE_NUM_MAX), 0);
    driver.write(VIRTIO_MMIO.QUEUE_SEL, 0xffff_ffff);
    assert.equal(driver.read(VIRTIO_MMIO.QUEUE_NUM_MAX), 0);
  });

  test("changes nothing after DRIVER_OK except by a reset", (bench, driver) => {
    driver.start();
    const before = new Uint8Array(bench.slot.state.buffer).slice();
    driver.write(VIRTIO_MMIO.QUEUE_SEL, 0);
    for (
      const register of [
        VIRTIO_MMIO.QUEUE_NUM,
        VIRTIO_MMIO.QUEUE_READY,
        VIRTIO_MMIO.QUEUE_DESC_LOW,
        VIRTIO_MMIO.QUEUE_AVAIL_HIGH,
        VIRTIO_MMIO.QUEUE_USED_LOW,
        VIRTIO_MMIO.DRIVER_FEATURES,
      ]
    ) driver.write(register, 0);
    driver.write(VIRTIO_MMIO.QUEUE_SEL, bench.slot.device.queueSizes.length - 1);
    assert.deepEqual(new Uint8Array(bench.slot.state.buffer), before);
  });

  test("starts again after a reset while it is active", (bench, driver) => {
    for (let round = 0; round < 3; round++) {
      driver.start();
      bench.turn();
      driver.write(VIRTIO_MMIO.STATUS, 0);
      assert.equal(driver.read(VIRTIO_MMIO.STATUS), 0);
      driver.write(VIRTIO_MMIO.QUEUE_SEL, 0);
      assert.equal(driver.read(VIRTIO_MMIO.QUEUE_READY), 0);
      assert.equal(driver.read(VIRTIO_MMIO.INTERRUPT_STATUS), 0);
    }
  });

  test("gives unfit chains back with length 0 and goes on", (bench, driver) => {
    const end = bench.memory.start + bench.memory.size;
    eachQueue(bench, driver, (queue, look) => {
      const unfit: (() => void)[] = [
        () => queue.descriptor(0, BigInt(end), 16, 0, 0), // behind RAM
        () => queue.descriptor(0, BigInt(end - 8), 16, 2, 0), // across its end
        () => queue.descriptor(0, BigInt(bench.memory.start - 8), 16, 2, 0), // across its start
        () => queue.descriptor(0, 0xffff_ffff_ffff_fff0n, 0xffff_ffff, 2, 0), // wraps around
        () => queue.descriptor(0, 0x8000_0000_0000_0000n, 1, 0, 0),
        () => queue.descriptor(0, BigInt(START), 0xffff_ffff, 2, 0), // longer than RAM
        () => queue.descriptor(0, BigInt(START), 16, 4, 0), // indirect: not offered
        () => queue.descriptor(0, BigInt(START), 16, 1, 0), // a loop of one
        () => queue.descriptor(0, BigInt(START), 16, 1, queue.size), // a next that is not there
        () => queue.descriptor(0, BigInt(START), 16, 1, 0xffff),
      ];
      for (const prepare of unfit) {
        queue.offer(queue.size); // names no descriptor
        queue.offer(0xffff);
        prepare();
        queue.offer(0);
        look();
        assert.deepEqual(queue.collect(), [{ head: 0, length: 0 }], `${prepare}`);
      }
    });
    assert.equal(driver.read(VIRTIO_MMIO.STATUS), LIVE);
  });

  test("interrupts for what it gives back, just when the driver wants that", (bench, driver) => {
    eachQueue(bench, driver, (queue, look) => {
      const give = () => {
        queue.descriptor(0, 0n, 16, 0, 0); // no RAM: given back at once
        queue.offer(0);
        look();
        assert.deepEqual(queue.collect(), [{ head: 0, length: 0 }]);
      };
      for (let round = 0; round < 3; round++) {
        queue.wantInterrupt();
        assert.equal(edges(bench, 1)(give), 1);
        assert.deepEqual(driver.acknowledge(), { vring: true, config: false });
        assert.equal(edges(bench, 0)(give), 0, "it was not asked for again");
        assert.deepEqual(driver.acknowledge(), { vring: false, config: false });
      }
    });
  });

  test("without event indices it heeds the driver's flag", (bench, driver) => {
    driver.start(driver.offered & ~(1n << Feature.EVENT_IDX));
    for (const [index, queue] of driver.queues.entries()) {
      if (sends[index] !== undefined) continue; // a device's prompt uses several queues
      const give = () => {
        queue.descriptor(0, 0n, 16, 0, 0);
        queue.offer(0);
        driver.kick(index);
        assert.deepEqual(queue.collect(), [{ head: 0, length: 0 }]);
      };
      queue.setNoInterrupt(true);
      assert.equal(edges(bench, 0)(give), 0);
      queue.setNoInterrupt(false);
      assert.equal(edges(bench, 1)(give), 1);
      assert.deepEqual(driver.acknowledge(), { vring: true, config: false });
    }
  });

  test("wants a reset when an index runs wild, and works after it", (bench, driver) => {
    eachQueue(bench, driver, (queue, look) => {
      queue.setAvailableIndex(queue.size + 1);
      look();
      assert.equal(driver.read(VIRTIO_MMIO.STATUS), LIVE | DEVICE_NEEDS_RESET);
      assert.equal(driver.acknowledge().config, true);
      assert.deepEqual(queue.collect(), []);
      driver.start();
      assert.equal(driver.read(VIRTIO_MMIO.STATUS), LIVE);
    });
  });

  test("keeps the configuration space to itself", (bench, driver) => {
    const { device, state } = bench.slot;
    const { transport } = bench;
    driver.start();
    const [from, to] = device.configWritable ?? [0, 0];
    const before = state.config.slice();
    for (let offset = 0; offset < 300; offset++) {
      for (const width of [1, 2, 4]) {
        transport.write(VIRTIO_MMIO.CONFIG + offset, width, 0xffff_ffff);
        const value = transport.read(VIRTIO_MMIO.CONFIG + offset, width);
        if (offset + width > device.config.length) assert.equal(value, 0);
      }
    }
    const writable = (at: number) => at >= from && at < to;
    assert(state.config.every((byte, at) => writable(at) || byte === before[at]));
    assert.equal(driver.read(VIRTIO_MMIO.CONFIG_GENERATION) % 2, 0);
  });

  test("goes on in another process from what was saved", (bench, driver) => {
    driver.start();
    bench.turn();
    const saved = structuredClone(bench.slot.save());
    assert.deepEqual(JSON.parse(JSON.stringify(saved.device)), saved.device);
    using other = new Bench(bench.memory, make);
    other.slot.state.restore(saved.transport);
    other.slot.restore(saved);
    const again = other.slot.save();
    assert.deepEqual(again.queues, saved.queues);
    assert.equal(other.transport.read(VIRTIO_MMIO.STATUS, 4), LIVE);
    assert.throws(() => other.slot.restore({ ...saved, name: "something else" }));
    const wrong = saved.transport.bytes.slice();
    wrong[0]! ^= 0xff;
    assert.throws(() => other.slot.state.restore({ bytes: wrong }));
    const changing = saved.transport.bytes.slice();
    changing[4 * Word.configGeneration]! |= 1; // a read of it would never end
    assert.throws(() => other.slot.state.restore({ bytes: changing }));
  });
}
