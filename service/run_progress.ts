/**
 * What the service says about a run while it works: a bounded queue of remarks that its client reads
 * when it is ready to.
 *
 * @module
 */
import type { Progress, ProgressTask } from "../base/progress.ts";
import { EventQueue } from "../node/progress_events.ts";

/** How much a remark matters; the numbers are those of vmmorchestrator.LogLevel. */
export type RemarkLevel = 0 | 1 | 2 | 3;

/** A bounded queue of remarks, and a {@linkcode Progress} that fills it. */
export class RunProgress {
  readonly #level: RemarkLevel;
  readonly #also: Progress | undefined;
  readonly #remarks = new EventQueue<string>();

  /**
   * @param level remarks that matter less are left out
   * @param also hears the progress as well
   */
  constructor(level: RemarkLevel, also?: Progress) {
    this.#level = level;
    this.#also = also;
  }

  /** Adds a remark. */
  add(level: RemarkLevel, text: string): void {
    if (level >= this.#level) this.#remarks.push(text);
  }

  /** The remarks since the last call. */
  take(): string[] {
    return this.#remarks.take();
  }

  /**
   * Yields remarks until `work` ends, and returns what it gives.
   *
   * @throws what `work` throws
   */
  during<T>(work: Promise<T>): AsyncGenerator<string, T> {
    return this.#remarks.during(work);
  }

  /** Progress that becomes remarks: a task's title when it begins and its summary at its end. */
  readonly progress: Progress = {
    task: (title, options): ProgressTask => {
      const also = this.#also?.task(title, options);
      this.add(0, title);
      return {
        advance: (amount) => also?.advance(amount),
        note: (text) => also?.note(text),
        done: (summary) => {
          if (summary !== undefined) this.add(0, `${title}: ${summary}`);
          also?.done(summary);
        },
        [Symbol.dispose]: () => also?.[Symbol.dispose](),
      };
    },
    info: (message) => {
      this.add(1, message);
      this.#also?.info(message);
    },
    [Symbol.dispose]: () => {}, // `also` belongs to whoever made it
  };
}
