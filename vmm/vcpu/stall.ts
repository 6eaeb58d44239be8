/**
 * An exit that cannot be answered yet. The vCPU waits for it and no other one of its thread does: who
 * runs the vCPU decides how to wait.
 *
 * @module
 */

/** How long to wait before looking whether the vCPU shall stop, in milliseconds. */
const LOOK_MS = 20;

/** A word that threads share, and what it is while there is nothing to be done. */
export interface SharedWord {
  /** The words. */
  readonly words: Int32Array<SharedArrayBuffer>;
  /** Which one. */
  readonly index: number;
  /** Its value for as long as waiting makes sense; who changes it notifies. */
  readonly value: number;
}

/** An answer that is not ready; `T` is what it will be. */
export class Stall<T = void> {
  readonly #word: SharedWord;
  /** Tries again, after a wait. */
  readonly retry: () => T | Stall<T>;

  /**
   * @param word changes when it may be worth while to try again
   * @param retry tries again
   */
  constructor(word: SharedWord, retry: () => T | Stall<T>) {
    this.#word = word;
    this.retry = retry;
  }

  /** What comes after the answer. */
  followedBy<U>(next: (answer: T) => U | Stall<U>): Stall<U> {
    return new Stall(this.#word, () => {
      const answer = this.retry();
      return answer instanceof Stall ? answer.followedBy(next) : next(answer);
    });
  }

  /** Blocks this thread until it may be worth while to try again, but not for long. */
  block(): void {
    const { words, index, value } = this.#word;
    Atomics.wait(words, index, value, LOOK_MS);
  }

  /** As {@linkcode Stall.block}, while the thread does other work. */
  async wait(): Promise<void> {
    const { words, index, value } = this.#word;
    const wait = Atomics.waitAsync(words, index, value, LOOK_MS);
    if (wait.async) await wait.value;
  }
}
