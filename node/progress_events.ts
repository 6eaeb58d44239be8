/**
 * Progress as plain data: what a node says while it works, and what it becomes again on the other
 * side of the call.
 *
 * @module
 */
import type { Progress, ProgressOptions, ProgressTask } from "../base/progress.ts";

/** Something that happened to a piece of work; see {@linkcode Progress} and `ProgressTask`. */
export type ProgressEvent =
  | { readonly kind: "task"; readonly task: number; readonly title: string } & ProgressOptions
  | { readonly kind: "advance"; readonly task: number; readonly amount: number }
  | { readonly kind: "note"; readonly task: number; readonly text: string }
  | { readonly kind: "done"; readonly task: number; readonly summary?: string }
  | { readonly kind: "dropped"; readonly task: number }
  | { readonly kind: "info"; readonly message: string };

/** Events that wait for a slow reader; beyond it, steps of a task and then the oldest are dropped. */
const CAPACITY = 256;

/** A stream of events and the work that makes them: see {@linkcode EventQueue.during}. */
export class EventQueue<T> {
  #queue: T[] = [];
  #wake: (() => void) | undefined;
  readonly #merge: (last: T, next: T) => T | undefined;

  /** @param merge one event in place of two that follow each other, where that says the same */
  constructor(merge: (last: T, next: T) => T | undefined = () => undefined) {
    this.#merge = merge;
  }

  /** Adds an event. */
  push(event: T): void {
    const last = this.#queue.at(-1);
    const merged = last === undefined ? undefined : this.#merge(last, event);
    if (merged !== undefined) {
      this.#queue[this.#queue.length - 1] = merged;
      return;
    }
    if (this.#queue.length === CAPACITY) this.#queue.shift();
    this.#queue.push(event);
    this.#wake?.();
  }

  /** The events since the last call. */
  take(): T[] {
    return this.#queue.splice(0);
  }

  /**
   * Yields events until `work` ends, and returns what it gives.
   *
   * @throws what `work` throws, after the events that came before
   */
  async *during<R>(work: Promise<R>): AsyncGenerator<T, R> {
    let ended = false;
    const end = work.then(() => {}, () => {}).then(() => {
      ended = true;
    });
    while (!ended) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      if (this.#queue.length === 0) await Promise.race([promise, end]);
      this.#wake = undefined;
      yield* this.take();
    }
    yield* this.take();
    return await work;
  }
}

/** Steps of one task that follow each other are one step. */
function mergeSteps(last: unknown, next: unknown): unknown {
  const [a, b] = [last, next] as [ProgressEvent, ProgressEvent];
  if (a.kind === "advance" && b.kind === "advance" && a.task === b.task) {
    return { ...a, amount: a.amount + b.amount };
  }
  return a.kind === "note" && b.kind === "note" && a.task === b.task ? b : undefined;
}

/** A queue for what a node says besides progress, with steps of tasks merged. */
export function progressQueue<T>(): EventQueue<T | ProgressEvent> {
  return new EventQueue<T | ProgressEvent>((last, next) =>
    mergeSteps(last, next) as ProgressEvent | undefined
  );
}

/** A {@linkcode Progress} whose reports become events. */
export function eventProgress(emit: (event: ProgressEvent) => void): Progress {
  let tasks = 0;
  return {
    task(title, options = {}): ProgressTask {
      const task = ++tasks;
      emit({ kind: "task", task, title, ...options });
      return {
        advance: (amount) => emit({ kind: "advance", task, amount }),
        note: (text) => emit({ kind: "note", task, text }),
        done: (summary) => emit({ kind: "done", task, ...(summary !== undefined && { summary }) }),
        [Symbol.dispose]: () => emit({ kind: "dropped", task }),
      };
    },
    info: (message) => emit({ kind: "info", message }),
    [Symbol.dispose]: () => {},
  };
}

/** Reports events to a {@linkcode Progress} again; one reporter for each stream of events. */
export class ProgressReporter implements Disposable {
  readonly #progress: Progress;
  readonly #tasks = new Map<number, ProgressTask>();

  /** @param progress hears of the events; it is not disposed */
  constructor(progress: Progress) {
    this.#progress = progress;
  }

  /** Reports an event. What belongs to a task whose beginning was dropped is left out. */
  report(event: ProgressEvent): void {
    switch (event.kind) {
      case "info":
        return this.#progress.info(event.message);
      case "task": {
        const { kind: _kind, task, title, ...options } = event;
        this.#tasks.set(task, this.#progress.task(title, options));
        return;
      }
      case "advance":
        return this.#tasks.get(event.task)?.advance(event.amount);
      case "note":
        return this.#tasks.get(event.task)?.note(event.text);
      case "done":
        return this.#tasks.get(event.task)?.done(event.summary);
      case "dropped":
        this.#tasks.get(event.task)?.[Symbol.dispose]();
        this.#tasks.delete(event.task);
        return;
      default:
        event satisfies never;
    }
  }

  /** Ends the tasks whose end was not reported, as failed. */
  [Symbol.dispose](): void {
    for (const task of this.#tasks.values()) task[Symbol.dispose]();
    this.#tasks.clear();
  }
}

/** Whether an event is progress, and not a result. */
export function isProgress(event: { readonly kind: string }): event is ProgressEvent {
  return ["task", "advance", "note", "done", "dropped", "info"].includes(event.kind);
}
