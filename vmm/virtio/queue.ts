/**
 * The device's side of a split virtqueue: virtio 1.2, section 2.7.
 *
 * The driver is hostile. Every index, address and length is read once and checked before use; a bad
 * chain is counted and given back with length 0, a bad ring stops the queue. The three parts of the
 * ring are looked up once, when the queue is made, since a queue never moves while it is in use.
 *
 * {@linkcode VirtQueue.pop} describes the chain it took in fields of the queue itself, so that
 * nothing is allocated per descriptor.
 *
 * @module
 */
import type { DeviceMemory } from "./memory.ts";

/** virtio 1.2, 2.7: "Queue Size ... The maximum Queue Size value is 32768". */
export const MAX_QUEUE_SIZE = 32768;

// virtio 1.2, 2.7.5, struct virtq_desc: le64 addr, le32 len, le16 flags, le16 next.
const DESC_BYTES = 16;
const DESC_LEN = 8;
const DESC_FLAGS = 12;
const DESC_NEXT = 14;
const VIRTQ_DESC_F_NEXT = 1;
const VIRTQ_DESC_F_WRITE = 2;
const VIRTQ_DESC_F_INDIRECT = 4;

// 2.7.6, struct virtq_avail: le16 flags, le16 idx, le16 ring[size], le16 used_event.
// 2.7.8, struct virtq_used: le16 flags, le16 idx, {le32 id, le32 len} ring[size], le16 avail_event.
const RING_FLAGS = 0; // index in 16-bit units
const RING_INDEX = 1;
const RING_START = 2;
const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
const VIRTQ_USED_F_NO_NOTIFY = 1;

/** Where a driver has put a queue. */
export interface QueueLayout {
  /** Number of descriptors; a power of two. */
  readonly size: number;
  /** Guest-physical address of the descriptor table. */
  readonly descriptors: number;
  /** Guest-physical address of the driver area (available ring). */
  readonly available: number;
  /** Guest-physical address of the device area (used ring). */
  readonly used: number;
}

/** What has to be kept of a queue besides its layout and the guest's memory. */
export interface QueueState {
  /** Index of the next entry of the available ring to take. */
  readonly nextAvailable: number;
  /** Index of the next entry of the used ring to fill. */
  readonly nextUsed: number;
}

/** Why a driver's queue cannot be used, or undefined when it can. */
export function refuseLayout(
  layout: QueueLayout,
  memory: Pick<DeviceMemory, "offsetOf">,
): string | undefined {
  const { size, descriptors, available, used } = layout;
  if (!(size > 0 && size <= MAX_QUEUE_SIZE) || (size & (size - 1)) !== 0) {
    return `queue size ${size} is no power of two up to ${MAX_QUEUE_SIZE}`;
  }
  // 2.7: alignment of the parts is 16, 2 and 4 bytes; sizes as in the table there.
  const parts = [
    ["descriptor table", descriptors, DESC_BYTES * size, 16],
    ["available ring", available, 6 + 2 * size, 2],
    ["used ring", used, 6 + 8 * size, 4],
  ] as const;
  for (const [name, address, length, alignment] of parts) {
    if (address % alignment !== 0) return `the ${name} at ${address} is not aligned`;
    if (memory.offsetOf(address, length) < 0) return `the ${name} at ${address} is not in RAM`;
  }
  return undefined;
}

/** One queue in use. */
export class VirtQueue implements Disposable {
  /** Number of descriptors. */
  readonly size: number;
  /** Chains that were refused since the queue was made. */
  badChains = 0;
  /** The driver broke the ring itself: nothing more is taken from it until a reset. */
  broken = false;

  /** Head of the chain that {@linkcode VirtQueue.pop} took. */
  head = 0;
  /** Offsets in guest memory of the chain's buffers: readable ones first, then writable ones. */
  readonly offsets: Float64Array;
  /** Lengths in bytes of the chain's buffers. */
  readonly lengths: Uint32Array;
  /** How many buffers of the chain the device may read. */
  readable = 0;
  /** How many buffers of the chain the device may write; they follow the readable ones. */
  writable = 0;
  /** Sum of the readable lengths. */
  readableBytes = 0;
  /** Sum of the writable lengths. */
  writableBytes = 0;

  readonly #memory: DeviceMemory;
  readonly #eventIndex: boolean;
  /** The three parts of the ring. */
  readonly #windows: readonly Uint8Array<ArrayBuffer>[];
  readonly #descriptors: DataView;
  readonly #available: Uint16Array;
  readonly #used: Uint16Array;
  readonly #usedRing: Uint32Array;
  #nextAvailable = 0;
  #nextUsed = 0;
  /** The used index that the driver was last shown. */
  #published = 0;

  /**
   * @param memory the guest's RAM
   * @param layout where the driver put the queue
   * @param eventIndex whether VIRTIO_F_EVENT_IDX was negotiated
   * @param state where a saved queue stood
   * @throws {RangeError} when the layout is not usable: see {@linkcode refuseLayout}
   */
  constructor(
    memory: DeviceMemory,
    layout: QueueLayout,
    eventIndex: boolean,
    state: QueueState = { nextAvailable: 0, nextUsed: 0 },
  ) {
    const why = refuseLayout(layout, memory);
    if (why !== undefined) throw new RangeError(`Cannot use a virtqueue: ${why}`);
    const { size } = layout;
    this.size = size;
    this.offsets = new Float64Array(size);
    this.lengths = new Uint32Array(size);
    this.#memory = memory;
    this.#eventIndex = eventIndex;
    const part = (address: number, length: number) =>
      memory.window(memory.offsetOf(address, length), length);
    const table = part(layout.descriptors, DESC_BYTES * size);
    const available = part(layout.available, 6 + 2 * size);
    const used = part(layout.used, 6 + 8 * size);
    this.#windows = [table, available, used];
    this.#descriptors = new DataView(table.buffer, table.byteOffset, table.length);
    this.#available = new Uint16Array(available.buffer, available.byteOffset, 3 + size);
    this.#used = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size);
    this.#usedRing = new Uint32Array(used.buffer, used.byteOffset + 4, 2 * size);
    this.#nextAvailable = state.nextAvailable & 0xffff;
    this.#nextUsed = this.#published = state.nextUsed & 0xffff;
  }

  /** Lets go of the ring. */
  [Symbol.dispose](): void {
    for (const window of this.#windows) this.#memory.release(window);
  }

  /** What has to be kept to go on with this queue later. */
  save(): QueueState {
    return { nextAvailable: this.#nextAvailable, nextUsed: this.#published };
  }

  /** Whether {@linkcode VirtQueue.pop} would find something to look at. */
  hasAvailable(): boolean {
    return !this.broken && Atomics.load(this.#available, RING_INDEX) !== this.#nextAvailable;
  }

  /**
   * Takes the next chain that is fit for use and describes it in the fields of this object. Unfit
   * ones are given back on the way.
   *
   * @returns whether there was one
   */
  pop(): boolean {
    // Bounded, so that a driver that keeps adding unfit chains does not keep the device busy.
    for (let budget = this.size; budget > 0 && !this.broken; budget--) {
      // Atomics.load orders this before the reads of the ring and the table (2.7.13.3).
      const index = Atomics.load(this.#available, RING_INDEX);
      const waiting = (index - this.#nextAvailable) & 0xffff;
      if (waiting === 0) return false;
      if (waiting > this.size) { // more chains than there are descriptors
        this.broken = true;
        return false;
      }
      const head = this.#available[RING_START + (this.#nextAvailable & (this.size - 1))]!;
      this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
      if (head >= this.size) { // names no descriptor: there is nothing to give back
        this.badChains++;
        continue;
      }
      if (this.#walk(head)) return true;
      this.badChains++;
      this.push(head, 0);
    }
    return false;
  }

  /** Puts the chain that was just taken back, as if it had not been taken. */
  unpop(): void {
    this.rewind(1);
  }

  /** Puts so many chains that were just taken back. Unfit ones between them are given back twice. */
  rewind(chains: number): void {
    this.#nextAvailable = (this.#nextAvailable - chains) & 0xffff;
  }

  #walk(head: number): boolean {
    const descriptors = this.#descriptors;
    let count = 0;
    this.head = head;
    this.readable =
      this.writable =
      this.readableBytes =
      this.writableBytes =
        0;
    for (let index = head;;) {
      if (count === this.size) return false; // a loop: 2.7.5.2, no more than Queue Size
      const at = index * DESC_BYTES;
      const low = descriptors.getUint32(at, true);
      const high = descriptors.getUint32(at + 4, true);
      const length = descriptors.getUint32(at + DESC_LEN, true);
      const flags = descriptors.getUint16(at + DESC_FLAGS, true);
      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) return false; // not offered
      if (high >= 0x20_0000) return false; // beyond 2^53
      const offset = this.#memory.offsetOf(high * 0x1_0000_0000 + low, length);
      if (offset < 0) return false;
      this.offsets[count] = offset;
      this.lengths[count] = length;
      count++;
      if ((flags & VIRTQ_DESC_F_WRITE) !== 0) {
        this.writable++;
        this.writableBytes += length;
      } else {
        // 2.7.4.2: "place any device-writable descriptor elements after any device-readable ones"
        if (this.writable > 0) return false;
        this.readable++;
        this.readableBytes += length;
      }
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return true;
      index = descriptors.getUint16(at + DESC_NEXT, true);
      if (index >= this.size) return false;
    }
  }

  /**
   * Gives a chain back. The driver sees it after {@linkcode VirtQueue.publish}.
   *
   * @param head of the chain
   * @param written bytes that the device wrote to the chain, from its first writable byte on
   */
  push(head: number, written: number): void {
    const slot = (this.#nextUsed & (this.size - 1)) * 2;
    this.#usedRing[slot] = head;
    this.#usedRing[slot + 1] = written;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
  }

  /**
   * Shows the driver what was given back since the last call.
   *
   * @returns whether the driver wants to be interrupted for it
   */
  publish(): boolean {
    const before = this.#published;
    const now = this.#nextUsed;
    if (before === now) return false;
    this.#published = now;
    // Sequentially consistent: the entries are visible before, used_event is read after it.
    Atomics.store(this.#used, RING_INDEX, now);
    if (!this.#eventIndex) {
      return (Atomics.load(this.#available, RING_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    // 2.7.10.1: interrupt when the index used_event was passed with this batch.
    const event = Atomics.load(this.#available, RING_START + this.size);
    return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /**
   * Asks the driver to notify the device of the next chain.
   *
   * @returns whether chains arrived meanwhile: those come without a notification
   */
  enableNotifications(): boolean {
    if (this.#eventIndex) {
      Atomics.store(this.#used, RING_START + 4 * this.size, this.#nextAvailable);
    } else {
      Atomics.store(this.#used, RING_FLAGS, 0);
    }
    return this.hasAvailable();
  }

  /** How many chains the driver has made available so far, modulo 2^16. */
  get availableIndex(): number {
    return Atomics.load(this.#available, RING_INDEX);
  }

  /**
   * Asks the driver to notify the device when it adds to what is there now.
   *
   * @returns {@linkcode VirtQueue.availableIndex} as it is now
   */
  notifyOfNew(): number {
    const index = this.availableIndex;
    if (this.#eventIndex) Atomics.store(this.#used, RING_START + 4 * this.size, index);
    else Atomics.store(this.#used, RING_FLAGS, 0);
    return index;
  }

  /** Tells the driver that notifications are not needed for now. */
  disableNotifications(): void {
    // With event indices nothing is to be done: avail_event stays behind.
    if (!this.#eventIndex) Atomics.store(this.#used, RING_FLAGS, VIRTQ_USED_F_NO_NOTIFY);
  }

  /**
   * Copies the beginning of the chain's readable bytes.
   *
   * @param target where to; filled as far as the chain goes
   * @param from how many readable bytes to skip
   * @returns how many bytes were copied
   */
  read(target: Uint8Array, from = 0): number {
    return this.#copy(target, from, 0, this.readable, false);
  }

  /**
   * Copies bytes to the chain's writable buffers.
   *
   * @param source what to write
   * @param from how many writable bytes to skip
   * @returns how many bytes found room
   */
  write(source: Uint8Array, from = 0): number {
    return this.#copy(source, from, this.readable, this.readable + this.writable, true);
  }

  #copy(bytes: Uint8Array, from: number, first: number, end: number, toGuest: boolean): number {
    let done = 0;
    let skip = from;
    for (let i = first; i < end && done < bytes.length; i++) {
      const length = this.lengths[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const offset = this.offsets[i]! + skip;
      const count = Math.min(length - skip, bytes.length - done);
      const part = count === bytes.length ? bytes : bytes.subarray(done, done + count);
      if (toGuest) this.#memory.write(offset, part);
      else this.#memory.read(offset, part);
      done += count;
      skip = 0;
    }
    return done;
  }
}
