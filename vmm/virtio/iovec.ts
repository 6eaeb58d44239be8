/**
 * Arrays of `struct iovec` over guest memory, so that data goes between a descriptor and the guest
 * without a copy in between.
 *
 * @module
 */
import type { DeviceMemory } from "./memory.ts";
import type { VirtQueue } from "./queue.ts";

const IOVEC_BYTES = 16; // struct iovec { void *iov_base; size_t iov_len; }
const IOV_MAX = 1024; // include/uapi/linux/uio.h, UIO_MAXIOV

/** A reusable `struct iovec[]`. */
export class IoVector {
  /** The array, for readv(2) and its kin. */
  readonly array: Uint8Array<ArrayBuffer> = new Uint8Array(IOVEC_BYTES * IOV_MAX);
  /** How many elements are filled. */
  count = 0;
  /** Sum of their lengths in bytes. */
  bytes = 0;
  readonly #words = new BigUint64Array(this.array.buffer);
  readonly #base: bigint;

  /** @param memory the guest's RAM */
  constructor(memory: DeviceMemory) {
    this.#base = memory.base;
  }

  /**
   * Names the readable bytes of the chain that `queue` took last.
   *
   * @param queue whose chain
   * @param skip bytes to leave out at the beginning
   * @param limit the most bytes to name
   */
  readable(queue: VirtQueue, skip: number, limit: number): void {
    this.#fill(queue, 0, queue.readable, skip, limit);
  }

  /** Names the writable bytes of a chain; see {@linkcode IoVector.readable}. */
  writable(queue: VirtQueue, skip: number, limit: number): void {
    this.#fill(queue, queue.readable, queue.readable + queue.writable, skip, limit);
  }

  #fill(queue: VirtQueue, first: number, end: number, skip: number, limit: number): void {
    this.count = this.bytes = 0;
    for (let i = first; i < end && this.bytes < limit && this.count < IOV_MAX; i++) {
      const length = queue.lengths[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const part = Math.min(length - skip, limit - this.bytes);
      // SAFETY: VirtQueue.pop() checked that the whole segment is guest RAM.
      this.#words[2 * this.count] = this.#base + BigInt(queue.offsets[i]! + skip);
      this.#words[2 * this.count + 1] = BigInt(part);
      this.count++;
      this.bytes += part;
      skip = 0;
    }
  }
}
