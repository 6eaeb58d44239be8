/**
 * How long-running work tells what it does, without knowing who watches: the CLI draws bars, a
 * server logs lines, a library caller may not care.
 *
 * @module
 */

/** One piece of work under way. */
export interface ProgressTask {
  /** Adds to the amount done (bytes or items, as the task was announced). */
  advance(amount: number): void;
  /** Replaces the short remark beside the title, such as the file being fetched. */
  note(text: string): void;
  /** The work ended; a disposed task that was not told its outcome counts as failed. */
  done(summary?: string): void;
  /** Ends the task. */
  [Symbol.dispose](): void;
}

/** What a task is about. */
export interface ProgressOptions {
  /** The whole amount, when it is known beforehand. */
  readonly total?: number;
  /** What the amount counts. */
  readonly unit?: "bytes" | "items";
}

/** Somebody to whom work reports. */
export interface Progress extends Disposable {
  /**
   * Announces a piece of work.
   *
   * @param title an imperative phrase, such as "Fetch 31 packages"
   */
  task(title: string, options?: ProgressOptions): ProgressTask;
  /** A remark that stands on its own line. */
  info(message: string): void;
  /** Nothing more will be reported: a terminal is given back. */
  [Symbol.dispose](): void;
}

const SILENT_TASK: ProgressTask = {
  advance() {},
  note() {},
  done() {},
  [Symbol.dispose]() {},
};

/** Reports to nobody. */
export const silentProgress: Progress = {
  task: () => SILENT_TASK,
  info() {},
  [Symbol.dispose]() {},
};
