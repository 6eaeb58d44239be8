/**
 * Prepares and runs workloads, and tells what happens.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  type File,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { findAccount } from "./account.ts";
import type { Child, ChildStatus } from "./child.ts";
import { adoptOrphans, endDescendants } from "./descendants.ts";
import { Execution, type Response } from "./execution.ts";
import { COMMAND, type Language, type Project } from "./languages.ts";
import { MemoryWatch, outOfMemoryKills, spareAgent } from "./memory_watch.ts";
import type { Job } from "./request.ts";
import { canWait, isThere, type WarmNeeds, warmNeeds } from "./warm_needs.ts";
import { coldStart, release, type Start, type WarmChild, WarmPool } from "./warm_pool.ts";
import { sameFiles, Workspace } from "./workspace.ts";

/** Executions at the same time; each holds a thread that waits for its program. */
const MAX_RUNNING = 64;
/** How long the program's children may go on writing after it has ended, in milliseconds. */
const GRACE = 250;
/** How much may still come out of the pipes when all writers are killed: one pipe's limit each. */
const MAX_REMAINDER = 2 * 1024 * 1024;

const SIGKILL = 9;

/** A workload that is ready to run. */
interface Prepared {
  readonly workspace: Workspace;
  readonly project: Project;
  readonly sources: readonly File[];
  readonly job: Job;
  /** An interpreter that waits for the workload, for the first run of it. */
  warm: WarmChild | undefined;
}

/** Where a runner works, and with what environment. */
export interface RunnerOptions {
  /** Absolute directory for workloads; made when missing. */
  readonly root: string;
  /** Environment of every program, under the language's and the request's. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether this is a microVM of its own, where the kernel's out-of-memory killer is ours alone. */
  readonly guest: boolean;
}

/** Runs workloads; see the module. */
export class Runner {
  readonly #options: RunnerOptions;
  readonly #running = new Map<string, Execution>();
  readonly #prepared = new Map<string, Prepared>();
  readonly #warm = new WarmPool();
  #count = 0;
  #cleaning: Promise<void> = Promise.resolve();

  /** Makes the working directory and becomes the parent of orphans. */
  constructor(options: RunnerOptions) {
    this.#options = options;
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

  /**
   * Sends a signal to an execution.
   *
   * @param id every execution when empty
   * @returns false when there is no such execution
   */
  signal(id: string, signal: number): boolean {
    const targets = id === "" ? [...this.#running.values()] : [this.#running.get(id)];
    let found = false;
    for (const running of targets) {
      if (running === undefined) continue;
      found = true;
      running.ended ??= "signal";
      running.child?.kill(signal);
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
    const running = this.#find(id);
    if (running.inputTaken) {
      throw new CloudletError(`Cannot feed the execution ${id}: it has no open standard input`, {
        code: "conflict",
        remedy: "set stdin_stream, and feed an execution from one place",
      });
    }
    running.inputTaken = true;
    return await running.started.promise;
  }

  /**
   * Lets somebody else feed an execution whose client was cut off.
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
   * Has the language's interpreter started and waiting for a program.
   *
   * @param needs what it must know of the program
   * @returns false when it cannot wait
   */
  warm(language: Language, needs: WarmNeeds): Promise<boolean> {
    const environment = { ...this.#options.environment, ...language.environment };
    return this.#warm.add(language, needs, `${this.#options.root}/${++this.#count}`, environment);
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
    const kept: { directory?: string } = {};
    const execution = new Execution(job.id, job.stdinStream, () => {
      execution.started.resolve(undefined);
      execution.child?.[Symbol.dispose]();
      this.#running.delete(job.id);
      // Later, so that the client need not wait for it.
      this.#cleaning = this.#cleaning.then(() => this.#cleanUp(kept.directory));
    });
    this.#running.set(job.id, execution);
    execution.begin(this.#carryOut(job, execution, kept));
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

  async #cleanUp(directory: string | undefined): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    // While another execution runs, its orphans and the ended one's cannot be told apart.
    if (this.#running.size === 0) endDescendants(this.#waiting());
    if (directory === undefined) return;
    await Deno.remove(directory, { recursive: true }).catch(() => {}); // a mount point, say: leave it
  }

  async *#carryOut(
    job: Job,
    running: Execution,
    kept: { directory?: string },
  ): AsyncGenerator<Response> {
    let prepared = job.action === Action.RUN ? this.#preparedFor(job) : undefined;
    if (prepared !== undefined) {
      const warm = this.#takePreparedWarm(prepared, job);
      running.child = warm?.child;
      prepared = { ...prepared, warm };
    } else {
      const warm = this.#takeWarm(job);
      const directory = warm?.directory ?? `${this.#options.root}/${++this.#count}`;
      kept.directory = directory;
      const workspace = warm?.workspace ?? Workspace.create(directory, job.sources);
      if (warm !== undefined) {
        running.child = warm.child; // ours to end from now on
        workspace.fill(job.sources.filter(({ path }) => !isThere(warm.needs, path)));
      }
      const project = workspace.asProject(job.sources, job);
      if (job.built.length > 0) {
        workspace.fillOutput(job.built);
      } else {
        const failure = yield* this.#build(job, project, workspace, running);
        if (failure !== undefined) {
          yield failure;
          return;
        }
      }
      prepared = { workspace, project, sources: job.sources, job, warm };
      if (job.action === Action.PREPARE) {
        const before = this.#prepared.get(job.workloadName);
        this.#prepared.set(job.workloadName, prepared);
        running.child = before?.warm?.child; // ends with this execution; the new one waits
        if (before === undefined) delete kept.directory;
        else kept.directory = before.workspace.directory;
        const wanted = job.builtStays ? [] : job.language.built?.(project) ?? [];
        for (const built of workspace.readOutput(wanted)) {
          yield { stage: Stage.BUILDING, built };
        }
        yield { stage: Stage.DONE, exitCode: 0, outcome: { kind: Kind.PREPARED } };
        return;
      }
    }
    yield* this.#run(job, prepared, running);
  }

  /** What an earlier PREPARE made, when it is of the same sources. */
  #preparedFor(job: Job): Prepared | undefined {
    const prepared = this.#prepared.get(job.workloadName);
    if (job.sources.length === 0) {
      if (prepared !== undefined && prepared.job.language === job.language) return prepared;
      throw new CloudletError(
        `Cannot run the ${job.language.name} workload ${JSON.stringify(job.workloadName)}: ` +
          "it was not prepared and has no source",
        { code: "not-found", remedy: "prepare it first, or send its source" },
      );
    }
    if (
      prepared === undefined || prepared.job.language !== job.language ||
      prepared.job.release !== job.release || prepared.job.entryPoint !== job.entryPoint ||
      !sameVariables(prepared.job.buildEnvironment, job.buildEnvironment)
    ) return undefined;
    return sameFiles(prepared.sources, job.sources) ? prepared : undefined;
  }

  /** Process ids of interpreters that wait. */
  #waiting(): Set<number> {
    const pids = new Set(this.#warm.pids);
    for (const { warm } of this.#prepared.values()) {
      if (warm !== undefined) pids.add(warm.child.pid);
    }
    return pids;
  }

  /** The interpreter that waits for a prepared workload; one that does not fit the job is ended. */
  #takePreparedWarm(prepared: Prepared, job: Job): WarmChild | undefined {
    const { warm } = prepared;
    prepared.warm = undefined;
    if (warm === undefined || canWait(job)) return warm;
    warm.child[Symbol.dispose]();
    return undefined;
  }

  /** A waiting interpreter that fits the job. */
  #takeWarm(job: Job): WarmChild | undefined {
    const needs = warmNeeds(job);
    return needs && this.#warm.take(job.language, needs);
  }

  #environment(
    { language, environment }: Job,
    own: Readonly<Record<string, string>> = environment,
  ): Record<string, string> {
    return { ...this.#options.environment, ...language.environment, ...own };
  }

  /** Builds the project; gives the last response when that fails. */
  async *#build(
    job: Job,
    project: Project,
    workspace: Workspace,
    running: Execution,
  ): AsyncGenerator<Response, Response | undefined> {
    const command = job.language.build?.(project);
    if (command === undefined) return undefined;
    Deno.mkdirSync(workspace.output);
    yield { stage: Stage.BUILDING };
    const start = coldStart({
      command,
      environment: this.#environment(job, job.buildEnvironment),
      directory: workspace.project,
      stdin: false,
    });
    const result = yield* this.#follow(job, running, Stage.BUILDING, start, job.buildTimeout);
    if ("stage" in result) return result;
    if (result.status.exitCode === 0 && running.ended === undefined) return undefined;
    const outcome = this.#outcome(running, result.status);
    if (outcome.kind === Kind.EXITED || outcome.kind === Kind.SIGNALED) {
      outcome.message = outcome.kind === Kind.EXITED
        ? `${command[0]} ended with exit code ${result.status.exitCode}`
        : `${command[0]} was ended by signal ${result.status.signal}`;
      outcome.kind = Kind.BUILD_FAILED;
    }
    return { stage: Stage.FAILED, exitCode: result.status.exitCode, outcome };
  }

  async *#run(job: Job, prepared: Prepared, running: Execution): AsyncGenerator<Response> {
    const { workspace, project, warm } = prepared;
    const directory = directoryOf(job, workspace);
    const account = job.user === "" ? undefined : findAccount(job.user);
    if (account !== undefined && job.language.name !== COMMAND) {
      Deno.chownSync(workspace.project, account.uid, account.gid); // programs write where they are
    }
    const environment = account?.home === undefined
      ? this.#environment(job)
      : { ...this.#environment(job), HOME: job.environment["HOME"] ?? account.home };
    const start = warm !== undefined && isDirectory(directory)
      ? () =>
        release(warm, {
          directory,
          file: job.language.run(project).at(-1)!,
          args: job.args,
          environment: job.environment,
        })
      : coldStart({
        command: [...job.language.run(project), ...job.args],
        environment,
        directory,
        account,
        stdin: job.stdinStream || job.stdin.length > 0,
      });
    const result = yield* this.#follow(job, running, Stage.RUNNING, start, job.timeout);
    if ("stage" in result) {
      yield result;
      return;
    }
    const { status, wallMillis, peakBytes } = result;
    const outcome = this.#outcome(running, status);
    for (const output of workspace.read(job.outputs)) yield { stage: Stage.RUNNING, output };
    yield {
      stage: outcome.kind === Kind.EXITED ? Stage.DONE : Stage.FAILED,
      exitCode: status.exitCode,
      outcome,
      usage: {
        wallTime: duration(wallMillis * 1000),
        userTime: duration(Math.max(0, status.usage.userMicros - (warm?.used.userMicros ?? 0))),
        systemTime: duration(
          Math.max(0, status.usage.systemMicros - (warm?.used.systemMicros ?? 0)),
        ),
        peakMemoryBytes: BigInt(peakBytes),
      },
    };
  }

  /** Runs one command to its end; gives a last response instead when it cannot be started. */
  async *#follow(
    job: Job,
    running: Execution,
    stage: Stage,
    begin: Start,
    timeout: number | undefined,
  ): AsyncGenerator<
    Response,
    { status: ChildStatus; wallMillis: number; peakBytes: number } | Response & { stage: Stage }
  > {
    let child: Child;
    const start = performance.now();
    try {
      child = begin();
    } catch (error) {
      const message = messageOf(error);
      return { stage: Stage.FAILED, outcome: { kind: Kind.NOT_STARTED, message } };
    }
    running.child = child;
    if (running.ended !== undefined) child.kill(SIGKILL); // asked for between two commands
    const timer = timeout === undefined ? undefined : setTimeout(() => {
      running.ended ??= "timeout";
      child.kill(SIGKILL);
    }, timeout);
    try {
      if (stage === Stage.RUNNING) {
        feed(child, job);
        running.started.resolve(child);
        yield { stage };
      }
      const text = job.rawOutput ? undefined : new TextOutput();
      const memory = new MemoryWatch(child.pid);
      let wallMillis = 0;
      let deadline: number | undefined;
      let remainder: number | undefined; // bytes still allowed, once all writers are killed
      for (;;) {
        const event = await child.next(
          deadline === undefined ? undefined : Math.max(0, Math.ceil(deadline - performance.now())),
        );
        const now = performance.now();
        if (event.kind === "ended") break;
        if (event.kind === "exited") {
          wallMillis = now - start;
          deadline = now + GRACE;
          clearTimeout(timer);
        } else if (event.kind !== "timeout") {
          if (remainder !== undefined) remainder -= event.bytes.length;
          const response = text?.response(stage, event.kind, event.bytes) ??
            (job.rawOutput
              ? event.kind === "stdout"
                ? { stage, stdoutBytes: event.bytes }
                : { stage, stderrBytes: event.bytes }
              : undefined);
          if (response !== undefined) yield response;
          memory.look(now - start); // when what was written is on its way
        }
        if (deadline === undefined || performance.now() < deadline) continue;
        if (remainder === undefined) {
          child.kill(SIGKILL); // what is left of the group
          remainder = MAX_REMAINDER;
          deadline = performance.now() + GRACE;
        } else if (event.kind === "timeout" || remainder <= 0) {
          break; // something in another session holds the pipe
        }
      }
      const status = child.reap();
      const rest = text?.end(stage);
      if (rest !== undefined) yield rest;
      return { status, wallMillis, peakBytes: memory.peak(status.usage.peakBytes) };
    } finally {
      clearTimeout(timer);
      running.child = undefined;
      child[Symbol.dispose]();
    }
  }

  #outcome(
    running: Execution,
    status: ChildStatus,
  ): { kind: Kind; signal: number; message: string } {
    const { signal, exitCode } = status;
    const outcome = (kind: Kind, message = "") => ({ kind, signal, message });
    if (running.ended === "timeout") {
      return outcome(Kind.TIMED_OUT, "it ran longer than its time limit");
    }
    if (signal !== 0 && running.ended !== undefined) {
      return outcome(Kind.KILLED, `it was ended by signal ${signal}, as asked`);
    }
    // A shell whose child was killed by signal 9 ends with 137.
    if (this.#options.guest && (signal === SIGKILL || exitCode === 128 + SIGKILL)) {
      if (outOfMemoryKills.happened()) {
        return outcome(Kind.OUT_OF_MEMORY, "the microVM's memory was used up");
      }
    }
    if (signal !== 0) return outcome(Kind.SIGNALED, `it was ended by signal ${signal}`);
    return outcome(Kind.EXITED);
  }
}

/** The responses of an execution, of which the first tells its id. */
async function* named(execution: Execution, abort: AbortSignal): AsyncGenerator<Response> {
  let first = true;
  for await (const response of execution.take(abort)) {
    yield first ? { ...response, executionId: execution.id } : response;
    first = false;
  }
}

/** Gives the program what is known of its input; the rest comes through the Input call. */
function feed(child: Child, job: Job): void {
  if (job.stdin.length > 0) {
    // SAFETY of types only: what protobuf decodes is never in shared memory.
    child.write(job.stdin as Uint8Array<ArrayBuffer>);
  }
  if (!job.stdinStream) child.closeInput();
}

/** Where the program runs; made when an image names one that it does not have. */
function directoryOf(job: Job, workspace: Workspace): string {
  if (job.language.name === COMMAND) {
    const directory = job.commandDirectory === "" ? "/" : job.commandDirectory;
    if (!isDirectory(directory)) Deno.mkdirSync(directory, { recursive: true });
    return directory;
  }
  return job.workingDirectory === ""
    ? workspace.project
    : `${workspace.project}/${job.workingDirectory}`;
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

function sameVariables(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

/** A protobuf Duration from microseconds. */
function duration(micros: number): { seconds: bigint; nanos: number } {
  const seconds = Math.floor(micros / 1e6);
  return { seconds: BigInt(seconds), nanos: Math.round((micros - seconds * 1e6) * 1000) };
}

/** Output as text, whose characters may be cut anywhere. */
class TextOutput {
  readonly #stdout = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #stderr = new TextDecoder("utf-8", { ignoreBOM: true });

  /** The response for a piece of output; undefined while it holds no whole character. */
  response(stage: Stage, kind: "stdout" | "stderr", bytes: Uint8Array): Response | undefined {
    const decoder = kind === "stdout" ? this.#stdout : this.#stderr;
    const text = decoder.decode(bytes as Uint8Array<ArrayBuffer>, { stream: true });
    return text === "" ? undefined : { stage, [kind]: text };
  }

  /** The response for characters that were never completed. */
  end(stage: Stage): Response | undefined {
    const stdout = this.#stdout.decode();
    const stderr = this.#stderr.decode();
    if (stdout === "" && stderr === "") return undefined;
    return {
      stage,
      ...(stdout === "" ? {} : { stdout }),
      ...(stderr === "" ? {} : { stderr }),
    };
  }
}
