/**
 * A ring of bytes from vCPU threads to the main thread, bounded: a producer waits when it is full.
 *
 * @module
 */

import type { SharedWord } from "../vcpu/stall.ts";

const enum Word {
  /** Bytes ever taken out. */
  Head,
  /** Bytes ever put in. */
  Tail,
  /** Set when the consumer will not come any more. */
  Closed,
  End,
}

const DATA_OFFSET = 64; // a cache line of its own for the words

/** Both ends of the ring; producers agree on a lock among themselves. */
export class ByteRing {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #data: Uint8Array<SharedArrayBuffer>;
  readonly #mask: number;

  /** What other threads make their end of. */
  readonly shared: SharedArrayBuffer;

  /** @param state made by {@linkcode ByteRing.createState} */
  constructor(state: SharedArrayBuffer) {
    this.shared = state;
    this.#words = new Int32Array(state, 0, Word.End);
    this.#data = new Uint8Array(state, DATA_OFFSET);
    this.#mask = this.#data.length - 1;
  }

  /** An empty ring; `size` is a power of two, in bytes. */
  static createState(size: number): SharedArrayBuffer {
    return new SharedArrayBuffer(DATA_OFFSET + size);
  }

  /** Puts a byte in; false when there is no room. A closed ring swallows. */
  push(byte: number): boolean {
    const words = this.#words;
    const tail = words[Word.Tail]!;
    const head = Atomics.load(words, Word.Head);
    if (((tail - head) | 0) > this.#mask) return Atomics.load(words, Word.Closed) === 1;
    this.#data[tail & this.#mask] = byte;
    Atomics.store(words, Word.Tail, (tail + 1) | 0);
    // Wake the consumer for the first byte; it takes all that has come by then.
    if (tail === Atomics.load(words, Word.Head)) Atomics.notify(words, Word.Tail);
    return true;
  }

  /** What changes when a full ring gets room, or is closed. */
  get room(): SharedWord {
    const words = this.#words;
    const head = Atomics.load(words, Word.Head);
    const full = ((Atomics.load(words, Word.Tail) - head) | 0) > this.#mask;
    const wait = full && Atomics.load(words, Word.Closed) === 0;
    return { words, index: Word.Head, value: wait ? head : ~head };
  }

  /** Takes everything out that is there: a copy. */
  drain(): Uint8Array<ArrayBuffer> {
    const head = this.#words[Word.Head]!;
    const tail = Atomics.load(this.#words, Word.Tail);
    const length = (tail - head) | 0;
    const result = new Uint8Array(length);
    const start = head & this.#mask;
    const first = Math.min(length, this.#data.length - start);
    result.set(this.#data.subarray(start, start + first));
    result.set(this.#data.subarray(0, length - first), first);
    Atomics.store(this.#words, Word.Head, tail);
    // Also when it was not full: a producer may have filled it, and gone to sleep, since the load.
    if (length > 0) Atomics.notify(this.#words, Word.Head);
    return result;
  }

  /** Settles when there is something to take out, or the ring is closed. */
  async ready(): Promise<void> {
    const words = this.#words;
    while (
      Atomics.load(words, Word.Closed) === 0 &&
      Atomics.load(words, Word.Head) === Atomics.load(words, Word.Tail)
    ) {
      const wait = Atomics.waitAsync(words, Word.Tail, words[Word.Head]!);
      if (wait.async) await wait.value;
    }
  }

  /** Whether {@linkcode close} was called. */
  get closed(): boolean {
    return Atomics.load(this.#words, Word.Closed) === 1;
  }

  /** Nobody will take bytes out any more; producers go on without waiting. */
  close(): void {
    Atomics.store(this.#words, Word.Closed, 1);
    Atomics.notify(this.#words, Word.Head);
    Atomics.notify(this.#words, Word.Tail);
  }
}
