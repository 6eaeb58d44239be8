/**
 * Bytes that wait, first in, first out, in one buffer that grows and shrinks.
 *
 * @module
 */

const LEAST = 4096;

/** A bounded queue is the caller's matter: this one takes what it is given. */
export class ByteQueue {
  #bytes = new Uint8Array(0);
  #start = 0;
  #end = 0;

  /** How many bytes wait. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** What waits; valid until the next call. */
  get waiting(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /**
   * Makes room at the end.
   *
   * @param length bytes to add
   * @returns where to put them, at once
   */
  extend(length: number): Uint8Array<ArrayBuffer> {
    if (this.#end + length > this.#bytes.length) {
      const needed = this.length + length;
      const target = needed <= this.#bytes.length / 2
        ? this.#bytes
        : new Uint8Array(Math.max(LEAST, 2 * needed));
      target.set(this.waiting);
      this.#end -= this.#start;
      this.#start = 0;
      this.#bytes = target;
    }
    this.#end += length;
    return this.#bytes.subarray(this.#end - length, this.#end);
  }

  /** Removes bytes from the front. */
  consume(length: number): void {
    this.#start += length;
    if (this.#start >= this.#end) this.clear();
  }

  /** Forgets everything and lets the buffer go. */
  clear(): void {
    this.#bytes = new Uint8Array(0);
    this.#start = this.#end = 0;
  }
}
