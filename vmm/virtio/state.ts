/**
 * The registers of one virtio-mmio device in shared memory: vCPU workers answer the guest's reads
 * and writes from it in place, the device worker reads the queues' layout from it and writes the
 * configuration space and the interrupt status.
 *
 * ```text
 * word 0..31        see Word
 * word 32 + 16 * q  queue q: see QueueWord
 * byte CONFIG_BYTE  configuration space, up to 256 bytes
 * ```
 *
 * @module
 */
import type { QueueLayout } from "./queue.ts";

/** The most queues that a device can have. */
export const MAX_QUEUES = 8;
/** The largest configuration space in bytes. */
export const MAX_CONFIG = 256;

/** Index of a 32-bit word of the shared state. */
export const Word = {
  deviceId: 0,
  queueCount: 1,
  configLength: 2,
  configWritableStart: 3,
  configWritableEnd: 4,
  deviceFeaturesLow: 5,
  deviceFeaturesHigh: 6,
  driverFeaturesLow: 7,
  driverFeaturesHigh: 8,
  deviceFeaturesSelect: 9,
  driverFeaturesSelect: 10,
  queueSelect: 11,
  status: 12,
  interruptStatus: 13,
  /** Odd while the device worker changes the configuration space. */
  configGeneration: 14,
  /** What vCPUs ask of the device worker: bits of {@linkcode Command}. */
  command: 15,
  /** 1 from DRIVER_OK until the device worker has let go of the queues. */
  active: 16,
} as const;

/** Index of a word of a queue's part of the shared state. */
export const QueueWord = {
  maximum: 0,
  size: 1,
  ready: 2,
  descriptorsLow: 3,
  descriptorsHigh: 4,
  availableLow: 5,
  availableHigh: 6,
  usedLow: 7,
  usedHigh: 8,
} as const;

/** What a vCPU asks of the device worker. */
export const Command = {
  /** The driver is ready: start the device. */
  activate: 1,
  /** Let go of the queues. */
  reset: 2,
  /** The driver wrote to the configuration space. */
  configWritten: 4,
} as const;

const QUEUE_WORDS = 32;
const WORDS_PER_QUEUE = 16;
const CONFIG_BYTE = 4 * (QUEUE_WORDS + WORDS_PER_QUEUE * MAX_QUEUES);

/** What never changes of a device, as the transport shows it. */
export interface DeviceDescription {
  /** virtio device id: virtio 1.2, section 5. */
  readonly deviceId: number;
  /** Features offered; bit n is feature n. */
  readonly features: bigint;
  /** The largest size of each queue; a power of two each. */
  readonly queueSizes: readonly number[];
  /** The configuration space at first. */
  readonly config: Uint8Array;
  /** Which bytes of the configuration space the driver may write: from, to (exclusive). */
  readonly configWritable?: readonly [from: number, to: number];
}

/** A saved copy of the shared state: everything that the guest has set. */
export interface TransportSnapshot {
  /** The words, then the configuration space. */
  readonly bytes: Uint8Array;
}

/** Typed access to the shared state. */
export class TransportState {
  /** The memory itself; can be posted to workers. */
  readonly buffer: SharedArrayBuffer;
  /** Its words. */
  readonly words: Int32Array<SharedArrayBuffer>;
  /** The configuration space. */
  readonly config: Uint8Array<SharedArrayBuffer>;

  /** @param buffer made by {@linkcode TransportState.create} */
  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer, 0, CONFIG_BYTE / 4);
    this.config = new Uint8Array(buffer, CONFIG_BYTE, MAX_CONFIG);
  }

  /** Makes the state of a device that no driver has touched yet. */
  static create(device: DeviceDescription): TransportState {
    if (device.queueSizes.length > MAX_QUEUES) throw new RangeError("too many queues");
    const state = new TransportState(new SharedArrayBuffer(CONFIG_BYTE + MAX_CONFIG));
    const { words } = state;
    words[Word.deviceId] = device.deviceId;
    words[Word.queueCount] = device.queueSizes.length;
    words[Word.configLength] = device.config.length;
    words[Word.configWritableStart] = device.configWritable?.[0] ?? 0;
    words[Word.configWritableEnd] = device.configWritable?.[1] ?? 0;
    words[Word.deviceFeaturesLow] = Number(BigInt.asIntN(32, device.features));
    words[Word.deviceFeaturesHigh] = Number(BigInt.asIntN(32, device.features >> 32n));
    device.queueSizes.forEach((size, queue) => {
      state.setQueueWord(queue, QueueWord.maximum, size);
    });
    state.config.set(device.config);
    return state;
  }

  /** A word as an unsigned number. */
  get(word: number): number {
    return Atomics.load(this.words, word) >>> 0;
  }

  /** Sets a word. */
  set(word: number, value: number): void {
    Atomics.store(this.words, word, value | 0);
  }

  /** A word of a queue as an unsigned number. */
  queueWord(queue: number, word: number): number {
    return this.get(QUEUE_WORDS + WORDS_PER_QUEUE * queue + word);
  }

  /** Sets a word of a queue. */
  setQueueWord(queue: number, word: number, value: number): void {
    this.set(QUEUE_WORDS + WORDS_PER_QUEUE * queue + word, value);
  }

  /** Where the driver put a queue; nothing of it is checked. */
  queueLayout(queue: number): QueueLayout {
    const address = (low: number) =>
      this.queueWord(queue, low + 1) * 0x1_0000_0000 + this.queueWord(queue, low);
    return {
      size: this.queueWord(queue, QueueWord.size),
      descriptors: address(QueueWord.descriptorsLow),
      available: address(QueueWord.availableLow),
      used: address(QueueWord.usedLow),
    };
  }

  /** Features that both sides agreed on. */
  get negotiated(): bigint {
    const driver = BigInt(this.get(Word.driverFeaturesHigh)) << 32n |
      BigInt(this.get(Word.driverFeaturesLow));
    const device = BigInt(this.get(Word.deviceFeaturesHigh)) << 32n |
      BigInt(this.get(Word.deviceFeaturesLow));
    return driver & device;
  }

  /** Changes the configuration space so that a driver never reads a half of it. */
  updateConfig(change: (config: Uint8Array<SharedArrayBuffer>) => void): void {
    Atomics.add(this.words, Word.configGeneration, 1);
    try {
      change(this.config);
    } finally {
      Atomics.add(this.words, Word.configGeneration, 1);
    }
  }

  /** A copy of everything, for a snapshot. Nobody may be changing it. */
  save(): TransportSnapshot {
    return { bytes: new Uint8Array(this.buffer).slice() };
  }

  /**
   * Takes over what a driver had set, from a snapshot of the same kind of device. The configuration
   * space stays as it is now: it may tell what differs between clones.
   *
   * @throws {RangeError} when the snapshot is of another kind of device
   */
  restore(snapshot: TransportSnapshot): void {
    if (snapshot.bytes.length !== this.buffer.byteLength) throw new RangeError("wrong size");
    const saved = new Int32Array(snapshot.bytes.slice().buffer);
    const fixed = [
      Word.deviceId,
      Word.queueCount,
      Word.deviceFeaturesLow,
      Word.deviceFeaturesHigh,
      ...Array.from(
        { length: MAX_QUEUES },
        (_, queue) => QUEUE_WORDS + WORDS_PER_QUEUE * queue + QueueWord.maximum,
      ),
    ];
    if (fixed.some((word) => saved[word] !== this.words[word])) {
      throw new RangeError("the snapshot is of another kind of device");
    }
    if (saved[Word.configGeneration]! % 2 !== 0) { // a vCPU that reads it would wait for ever
      throw new RangeError("the snapshot was made while a device changed");
    }
    const keep = new Set<number>([
      Word.configLength,
      Word.configWritableStart,
      Word.configWritableEnd,
      Word.command,
    ]);
    for (let word = 0; word < this.words.length; word++) {
      if (!keep.has(word)) Atomics.store(this.words, word, saved[word]!);
    }
  }
}
