/**
 * A run whose implementation is loaded when the run begins.
 *
 * An import of the library loads a function and types. The first run loads Connect, the messages and
 * the VMM.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { checkOptions, type RunOptions } from "./options.ts";
import type { ForkOptions, Run, RunEvent, RunOutput, RunResult } from "./run_stream.ts";
import { lazyImport } from "../../base/lazy_import.ts";

/**
 * Makes a run that loads the rest of the library when it begins.
 *
 * @throws {CloudletError} `invalid-input` when the options do not fit together
 */
export function lazyRun(options: RunOptions): Run {
  checkOptions(options);
  return new LazyRun(async () =>
    (await lazyImport<typeof import("./run.ts")>("./run.ts", import.meta.url)).run(options)
  );
}

/** A run of {@linkcode lazyRun}, or a fork of one. */
export class LazyRun implements Run {
  readonly #load: () => Promise<Run>;
  readonly #result = Promise.withResolvers<RunResult>();
  #loaded: Promise<Run> | undefined;
  #taken = false;

  /** @param load makes the run; called once, when it is wanted */
  constructor(load: () => Promise<Run>) {
    this.#load = load;
    this.#result.promise.catch(() => {}); // the iteration throws it as well
  }

  #run(): Promise<Run> {
    return this.#loaded ??= this.#load();
  }

  /** Passes the result on. Without an iteration, asking for it begins the run. */
  async #settle(): Promise<void> {
    try {
      this.#result.resolve(await (await this.#run()).result);
    } catch (error) {
      this.#result.reject(error);
    }
  }

  get result(): Promise<RunResult> {
    // As in RunOfTransport: an iteration that begins in this very turn still gets the events.
    queueMicrotask(() => {
      if (this.#taken) return;
      this.#taken = true;
      void this.#settle();
    });
    return this.#result.promise;
  }

  [Symbol.asyncIterator](): AsyncIterator<RunEvent> {
    this.#take();
    return this.#events();
  }

  #take(): void {
    if (this.#taken) {
      throw new CloudletError("Cannot iterate the run: its events are being taken already", {
        code: "conflict",
        remedy: "iterate once, and not after output() or result",
      });
    }
    this.#taken = true;
  }

  async *#events(): AsyncGenerator<RunEvent> {
    try {
      const run = await this.#run();
      const events = run[Symbol.asyncIterator]();
      void this.#settle();
      yield* { [Symbol.asyncIterator]: () => events };
    } catch (error) {
      this.#result.reject(error); // no effect once it is settled
      throw error;
    }
  }

  async output(): Promise<RunOutput> {
    this.#take();
    const run = await this.#run();
    const output = run.output();
    void this.#settle();
    return await output;
  }

  async kill(signal?: "KILL" | "TERM" | "INT"): Promise<void> {
    await (await this.#run()).kill(signal);
  }

  fork(options?: ForkOptions): Run {
    return new LazyRun(async () => (await this.#run()).fork(options));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#run())[Symbol.asyncDispose]();
  }
}
