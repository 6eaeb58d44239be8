/**
 * A lock for state that several vCPU threads and the main thread share, in one word of a
 * SharedArrayBuffer. It is held for microseconds, never while waiting for something else.
 *
 * @module
 */

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
const SPINS = 100;

/** A mutual exclusion lock: the futex protocol with three states. */
export class SharedLock {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #index: number;

  /** @param words where the lock is; `words[index]` is zero at first and used by nobody else */
  constructor(words: Int32Array<SharedArrayBuffer>, index: number) {
    this.#words = words;
    this.#index = index;
  }

  /** Runs `work` while holding the lock. */
  run<T>(work: () => T): T {
    this.#acquire();
    try {
      return work();
    } finally {
      this.#release();
    }
  }

  #acquire(): void {
    for (let spin = 0; spin < SPINS; spin++) {
      if (Atomics.compareExchange(this.#words, this.#index, FREE, HELD) === FREE) return;
    }
    while (Atomics.exchange(this.#words, this.#index, CONTENDED) !== FREE) {
      Atomics.wait(this.#words, this.#index, CONTENDED);
    }
  }

  #release(): void {
    if (Atomics.exchange(this.#words, this.#index, FREE) === CONTENDED) {
      Atomics.notify(this.#words, this.#index, 1);
    }
  }
}
