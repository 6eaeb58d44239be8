/**
 * For tests: time that passes when they say so.
 *
 * @module
 */
import type { Clock } from "./clock.ts";

/** A clock that stands still until it is put forward. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ readonly at: number; readonly work: () => void }>();

  /** See {@linkcode Clock.now}. */
  now(): number {
    return this.#now;
  }

  /** See {@linkcode Clock.after}. */
  after(milliseconds: number, work: () => void): Disposable {
    const timer = { at: this.#now + milliseconds, work };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  }

  /** Lets time pass and calls what is due, in order. */
  advance(milliseconds: number): void {
    const goal = this.#now + milliseconds;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= goal).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.work();
    }
    this.#now = goal;
  }
}
