/**
 * One timer for many things that each have a time at which they are due: a clock that is handed in,
 * and a wake-up that may come too early.
 *
 * @module
 */

/** What a stack needs of time. */
export interface Clock {
  /** Milliseconds from any origin, never less than before. */
  now(): number;
  /** Calls after so many milliseconds; it cannot be taken back. */
  after(milliseconds: number, task: () => void): void;
}

/** See the module. */
export class WakeUp {
  readonly #clock: Clock;
  readonly #task: () => void;
  #due = Infinity;

  /**
   * @param clock which time
   * @param task called when something may be due
   */
  constructor(clock: Clock, task: () => void) {
    this.#clock = clock;
    this.#task = task;
  }

  /** Something is due then; nothing when undefined. */
  at(due: number | undefined): void {
    if (due === undefined || due >= this.#due) return;
    this.#due = due;
    this.#clock.after(Math.max(1, Math.ceil(due - this.#clock.now())), () => {
      if (this.#due !== due) return; // an earlier one has been set since
      this.#due = Infinity;
      this.#task();
    });
  }
}
