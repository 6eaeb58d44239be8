/**
 * Time as an argument, so that what waits for it can be tested without waiting.
 *
 * @module
 */

/** Tells the time and calls back. */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /** Calls back once after so many milliseconds, unless disposed before. Keeps no process alive. */
  after(milliseconds: number, work: () => void): Disposable;
}

/** The host's monotonic clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(milliseconds, work) {
    const timer = setTimeout(work, milliseconds);
    Deno.unrefTimer(timer);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
