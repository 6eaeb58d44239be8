/**
 * Work that several callers want at the same time is done once, and belongs to none of them: a caller
 * that gives up leaves at once, and the others still get the result.
 *
 * @module
 */
import { CloudletError } from "./errors.ts";
import type { Progress, ProgressOptions, ProgressTask } from "./progress.ts";

/** A caller of {@linkcode SharedWork.share}. */
export interface Caller {
  /** Gives up: the call rejects with its reason. */
  readonly signal: AbortSignal;
  /** Hears of the work while the caller waits for it. */
  readonly progress: Progress;
}

/** Work that nobody waits for any more goes on for the next caller, within bounds. */
export interface SharedWorkOptions {
  /** How many such pieces of work go on; beyond it, the one left longest ago is ended. */
  readonly abandoned: number;
}

interface Piece {
  readonly result: Promise<unknown>;
  readonly abort: AbortController;
  readonly progress: SharedProgress;
  callers: number;
}

/** See the module. */
export class SharedWork implements AsyncDisposable {
  readonly #options: SharedWorkOptions;
  /** By key; those that nobody waits for in the order in which they were left. */
  readonly #pieces = new Map<string, Piece>();
  /** Everything that has not settled, also what was ended. */
  readonly #unsettled = new Set<Promise<unknown>>();
  #closed = false;

  /** @param options bounds */
  constructor(options: SharedWorkOptions) {
    this.#options = options;
  }

  /** Pieces of work under way, ended ones not counted. */
  get size(): number {
    return this.#pieces.size;
  }

  /**
   * Has work done, or joins the same work that is under way.
   *
   * @param key what the work is: the same key, the same result
   * @param caller who wants it
   * @param work gets a caller of its own, for whose signal and progress it works
   * @throws the reason of the caller's signal, and what `work` throws
   */
  async share<T>(
    key: string,
    { signal, progress }: Caller,
    work: (caller: Caller) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    const piece = this.#pieces.get(key) ?? this.#begin(key, work);
    piece.callers++;
    using _listening = piece.progress.join(progress);
    const gaveUp = Promise.withResolvers<never>();
    const giveUp = () => gaveUp.reject(signal.reason);
    signal.addEventListener("abort", giveUp);
    try {
      return await Promise.race([piece.result as Promise<T>, gaveUp.promise]);
    } finally {
      signal.removeEventListener("abort", giveUp);
      if (--piece.callers === 0) this.#leave(key, piece);
    }
  }

  #begin(key: string, work: (caller: Caller) => Promise<unknown>): Piece {
    if (this.#closed) throw closed();
    const abort = new AbortController();
    const progress = new SharedProgress();
    const result = work({ signal: abort.signal, progress });
    const piece = { result, abort, progress, callers: 0 };
    this.#pieces.set(key, piece);
    const settled = result.then(() => {}, () => {}).then(() => {
      this.#unsettled.delete(settled);
      if (this.#pieces.get(key) === piece) this.#pieces.delete(key);
    });
    this.#unsettled.add(settled);
    return piece;
  }

  /** Nobody waits for a piece any more. */
  #leave(key: string, piece: Piece): void {
    if (this.#pieces.get(key) !== piece) return; // it has settled, or was ended
    this.#pieces.delete(key);
    this.#pieces.set(key, piece); // the one left last
    const left = [...this.#pieces].filter(([, { callers }]) => callers === 0);
    for (const [old] of left.slice(0, Math.max(0, left.length - this.#options.abandoned))) {
      this.#end(old, "nobody waits for it any more");
    }
  }

  #end(key: string, why: string): void {
    const piece = this.#pieces.get(key);
    this.#pieces.delete(key); // whoever wants it now begins anew
    piece?.abort.abort(
      new CloudletError(`Cannot finish the work: ${why}`, { code: "cancelled" }),
    );
  }

  /** Ends all work and waits until it has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const key of [...this.#pieces.keys()]) this.#end(key, "the service ends");
    await Promise.all(this.#unsettled);
  }
}

function closed(): CloudletError {
  return new CloudletError("Cannot begin the work: the service ends", { code: "unavailable" });
}

/** A task under way, and what it is called at each listener. */
interface SharedTask {
  readonly title: string;
  readonly options: ProgressOptions | undefined;
  amount: number;
  note: string | undefined;
  readonly heard: Map<Progress, ProgressTask>;
}

/** Progress for listeners that come and go; one that joins hears of the tasks under way. */
class SharedProgress implements Progress {
  readonly #listeners = new Set<Progress>();
  readonly #tasks = new Set<SharedTask>();

  /** Listens until disposed. */
  join(listener: Progress): Disposable {
    this.#listeners.add(listener);
    for (const task of this.#tasks) {
      if (task.heard.has(listener)) continue;
      const heard = listener.task(task.title, task.options);
      task.heard.set(listener, heard);
      if (task.amount > 0) heard.advance(task.amount);
      if (task.note !== undefined) heard.note(task.note);
    }
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(listener);
        for (const { heard } of this.#tasks) {
          heard.get(listener)?.[Symbol.dispose]();
          heard.delete(listener);
        }
      },
    };
  }

  task(title: string, options?: ProgressOptions): ProgressTask {
    const heard = new Map([...this.#listeners].map((one) => [one, one.task(title, options)]));
    const task: SharedTask = { title, options, amount: 0, note: undefined, heard };
    this.#tasks.add(task);
    return {
      advance: (amount) => {
        task.amount += amount;
        for (const one of heard.values()) one.advance(amount);
      },
      note: (text) => {
        task.note = text;
        for (const one of heard.values()) one.note(text);
      },
      done: (summary) => {
        for (const one of heard.values()) one.done(summary);
      },
      [Symbol.dispose]: () => {
        this.#tasks.delete(task);
        for (const one of heard.values()) one[Symbol.dispose]();
        heard.clear();
      },
    };
  }

  info(message: string): void {
    for (const listener of this.#listeners) listener.info(message);
  }

  [Symbol.dispose](): void {} // each listener belongs to its caller
}
