/**
 * The executions under way: starts them, finds them again, cleans up behind them.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Child } from "./child.ts";
import { adoptOrphans, endDescendants } from "./descendants.ts";
import { Execution, type Response } from "./execution.ts";
import { Executor, type ExecutorOptions, type Leftovers } from "./executor.ts";
import type { InterpreterNeeds } from "../workload/interpreter_needs.ts";
import type { Language } from "../workload/languages.ts";
import { outOfMemoryKills, spareAgent } from "./memory_watch.ts";
import type { Job } from "../workload/request.ts";

/** Executions at the same time; each holds a thread that waits for its program. */
const MAX_RUNNING = 64;

/** Runs workloads; see the module. */
export class Runner {
  readonly #executor: Executor;
  readonly #running = new Map<string, Execution>();
  #started = 0;
  #cleaning: Promise<void> = Promise.resolve();

  /** Makes the working directory and becomes the parent of orphans. */
  constructor(options: ExecutorOptions) {
    this.#executor = new Executor(options);
    Deno.mkdirSync(options.root, { recursive: true });
    adoptOrphans();
    if (options.guest) {
      spareAgent();
      outOfMemoryKills.start();
    }
  }

  /** Number of executions under way. */
  get running(): number {
    return this.#running.size;
  }

  /** How many have been started so far. */
  get started(): number {
    return this.#started;
  }

  /**
   * Sends a signal to an execution.
   *
   * @param id every execution when empty
   * @returns false when there is no such execution
   */
  signal(id: string, signal: number): boolean {
    const targets = id === "" ? [...this.#running.values()] : [this.#running.get(id)];
    let found = false;
    for (const execution of targets) {
      if (execution === undefined) continue;
      found = true;
      execution.ended ??= "signal";
      execution.child?.kill(signal);
    }
    return found || id === "";
  }

  /**
   * The program whose standard input a client feeds.
   *
   * @returns undefined when it ended before it started to run
   * @throws {CloudletError} `not-found` or `conflict`
   */
  async takeInput(id: string): Promise<Child | undefined> {
    const execution = this.#find(id);
    if (execution.inputTaken) {
      throw new CloudletError(`Cannot feed the execution ${id}: it has no open standard input`, {
        code: "conflict",
        remedy: "set stdin_stream, and feed an execution from one place",
      });
    }
    execution.inputTaken = true;
    return await execution.started.promise;
  }

  /**
   * Lets another client feed an execution whose client was cut off.
   *
   * @returns false when it is not held for another client
   */
  releaseInput(id: string): boolean {
    const execution = this.#running.get(id);
    if (execution?.held !== true) return false;
    execution.inputTaken = false;
    return true;
  }

  /**
   * Has the language's interpreter started and idle.
   *
   * @param needs what it must know of its program
   * @returns false when it cannot be idle
   */
  addIdle(language: Language, needs: InterpreterNeeds): Promise<boolean> {
    return this.#executor.addIdle(language, needs);
  }

  /** Ends everything that was started, at once; what is on disk stays. */
  end(): void {
    endDescendants(new Set());
  }

  /**
   * Carries out a job. The last response has the stage DONE or FAILED.
   *
   * @param abort ends everything when the client has gone
   */
  async *execute(job: Job, abort: AbortSignal): AsyncGenerator<Response> {
    if (this.#running.has(job.id)) {
      throw new CloudletError(`Cannot start the execution ${job.id}: it is under way`, {
        code: "conflict",
      });
    }
    if (this.#running.size >= MAX_RUNNING) {
      throw new CloudletError(`Cannot start the execution: ${MAX_RUNNING} are under way`, {
        code: "exhausted",
      });
    }
    const leftovers: Leftovers = {};
    const execution = new Execution(job.id, job.stdinStream, () => {
      execution.started.resolve(undefined);
      execution.child?.[Symbol.dispose]();
      this.#running.delete(job.id);
      // Later, so that the client need not wait for it.
      this.#cleaning = this.#cleaning.then(() => this.#cleanUp(leftovers));
    });
    this.#running.set(job.id, execution);
    this.#started++;
    execution.begin(this.#executor.carryOut(job, execution, leftovers));
    yield* named(execution, abort);
  }

  /**
   * Lets an execution survive its client.
   *
   * @param seconds how long it waits for {@linkcode attach}; 0 for not at all
   * @throws {CloudletError} `not-found`
   */
  hold(id: string, seconds: number): void {
    this.#find(id).hold(seconds);
  }

  /**
   * Goes on with an execution that lost its client; as {@linkcode execute}.
   *
   * @throws {CloudletError} `not-found`, or `conflict` when it has a client
   */
  attach(id: string, abort: AbortSignal): AsyncGenerator<Response> {
    return named(this.#find(id), abort);
  }

  #find(id: string): Execution {
    const execution = this.#running.get(id);
    if (execution !== undefined) return execution;
    throw new CloudletError(`Cannot reach the execution ${JSON.stringify(id)}: there is none`, {
      code: "not-found",
    });
  }

  async #cleanUp({ directory, release }: Leftovers): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    // While another execution runs, its orphans and the ended one's cannot be told apart.
    if (this.#running.size === 0) endDescendants(this.#executor.idlePids);
    release?.();
    if (directory === undefined) return;
    await Deno.remove(directory, { recursive: true }).catch(() => {}); // a mount point, say: leave it
  }
}

/** The responses of an execution, of which the first has its id. */
async function* named(execution: Execution, abort: AbortSignal): AsyncGenerator<Response> {
  let first = true;
  for await (const response of execution.take(abort)) {
    yield first ? { ...response, executionId: execution.id } : response;
    first = false;
  }
}
