/**
 * Carries out jobs: prepares the workload, builds it, runs the program.
 *
 * @module
 */
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Child, type ChildStatus } from "./child.ts";
import { joinDependencies, withDependencies } from "./dependencies.ts";
import { execUserOf } from "./exec_user.ts";
import type { Execution, Response } from "./execution.ts";
import { follow } from "./follow.ts";
import { type IdleInterpreter, IdleInterpreters, startProgram } from "./idle_interpreters.ts";
import { type InterpreterNeeds, interpreterNeeds, isThere } from "../workload/interpreter_needs.ts";
import { COMMAND, type Language, type Project } from "../workload/languages.ts";
import { SIGNAL_NUMBERS } from "./libc.ts";
import { outOfMemoryKills } from "./memory_watch.ts";
import { type Prepared, PreparedWorkloads, takeInterpreter } from "./prepared_workloads.ts";
import type { Job } from "../workload/request.ts";
import { makeWorkingDirectory } from "./working_directory.ts";
import { Workspace } from "./workspace.ts";

/** Where workloads are, and with what environment they run. */
export interface ExecutorOptions {
  /** Absolute directory for workloads, which exists. */
  readonly root: string;
  /** Environment of every program, under the language's and the request's. */
  readonly environment: Readonly<Record<string, string>>;
  /** Whether this is a microVM of its own, where the kernel's out-of-memory killer is ours alone. */
  readonly guest: boolean;
}

/** What an execution leaves. */
export interface Leftovers {
  /** Directory to remove when it is over. */
  directory?: string;
  /** To be called before. */
  release?: () => void;
}

/** See the module. */
export class Executor {
  readonly #options: ExecutorOptions;
  readonly #prepared = new PreparedWorkloads();
  readonly #idle = new IdleInterpreters();
  #count = 0;

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  /** Process ids of interpreters that are idle, which outlive executions. */
  get idlePids(): Set<number> {
    return new Set([...this.#idle.pids, ...this.#prepared.pids]);
  }

  /**
   * Has the language's interpreter started and idle.
   *
   * @param needs what it must know of its program
   * @returns false when it cannot be idle
   */
  addIdle(language: Language, needs: InterpreterNeeds): Promise<boolean> {
    const environment = { ...this.#options.environment, ...language.environment };
    return this.#idle.add(language, needs, this.#newDirectory(), environment);
  }

  /** Carries out a job; the last response has the stage DONE or FAILED. */
  async *carryOut(
    job: Job,
    execution: Execution,
    leftovers: Leftovers,
  ): AsyncGenerator<Response> {
    let prepared = job.action === Action.RUN ? this.#prepared.find(job) : undefined;
    if (prepared !== undefined) {
      const idle = takeInterpreter(prepared, job);
      execution.child = idle?.child;
      prepared = { ...prepared, idle };
    } else {
      const idle = this.#takeIdle(job);
      const directory = idle?.directory ?? this.#newDirectory();
      leftovers.directory = directory;
      const workspace = idle?.workspace ?? Workspace.create(directory, job.sources);
      if (idle !== undefined) {
        execution.child = idle.child; // which now ends with it
        workspace.fill(job.sources.filter(({ path }) => !isThere(idle.needs, path)));
      }
      const release = leftovers.release = this.#options.guest
        ? joinDependencies(workspace.project)
        : () => {};
      const project = workspace.asProject(job.sources, job);
      if (job.built.length > 0) {
        workspace.fillOutput(job.built);
      } else {
        const failure = yield* this.#build(job, project, workspace, execution);
        if (failure !== undefined) {
          yield failure;
          return;
        }
      }
      prepared = { directory, workspace, project, sources: job.sources, job, release, idle };
      if (job.action === Action.PREPARE) {
        const earlier = this.#prepared.keep(prepared);
        execution.child = earlier?.idle?.child; // ends with this execution; the new one stays idle
        delete leftovers.directory;
        delete leftovers.release;
        if (earlier !== undefined) {
          leftovers.directory = earlier.directory;
          leftovers.release = earlier.release;
        }
        const wanted = job.builtStays ? [] : job.language.built?.(project) ?? [];
        for (const built of workspace.readOutput(wanted)) {
          yield { stage: Stage.BUILDING, built };
        }
        yield { stage: Stage.DONE, exitCode: 0, outcome: { kind: Kind.PREPARED } };
        return;
      }
    }
    yield* this.#run(job, prepared, execution);
  }

  #newDirectory(): string {
    return `${this.#options.root}/${++this.#count}`;
  }

  /** An idle interpreter that can run the job. */
  #takeIdle(job: Job): IdleInterpreter | undefined {
    const needs = interpreterNeeds(job);
    return needs && this.#idle.take(job.language, needs);
  }

  /** Of the program. */
  #environment({ language, environment }: Job): Record<string, string> {
    const variables = { ...this.#options.environment, ...language.environment, ...environment };
    return this.#options.guest ? withDependencies(variables) : variables;
  }

  #buildEnvironment({ language, buildEnvironment }: Job): Record<string, string> {
    const { environment, guest } = this.#options;
    const variables = { ...environment, ...language.buildEnvironment };
    return { ...guest ? withDependencies(variables) : variables, ...buildEnvironment };
  }

  /** Builds the project; returns the last response when that fails. */
  async *#build(
    job: Job,
    project: Project,
    workspace: Workspace,
    execution: Execution,
  ): AsyncGenerator<Response, Response | undefined> {
    const command = job.language.build?.(project);
    if (command === undefined) return undefined;
    Deno.mkdirSync(workspace.output);
    yield { stage: Stage.BUILDING };
    const result = yield* follow({
      execution,
      stage: Stage.BUILDING,
      start: () =>
        Child.spawn({
          command,
          environment: this.#buildEnvironment(job),
          directory: workspace.project,
          stdin: false,
        }),
      timeout: job.buildTimeout,
      raw: job.rawOutput,
    });
    if ("stage" in result) return result;
    if (result.status.exitCode === 0 && execution.ended === undefined) return undefined;
    const outcome = this.#outcome(execution, result.status);
    if (outcome.kind === Kind.EXITED || outcome.kind === Kind.SIGNALED) {
      outcome.message = outcome.kind === Kind.EXITED
        ? `${command[0]} ended with exit code ${result.status.exitCode}`
        : `${command[0]} was ended by signal ${result.status.signal}`;
      outcome.kind = Kind.BUILD_FAILED;
    }
    return { stage: Stage.FAILED, exitCode: result.status.exitCode, outcome };
  }

  async *#run(job: Job, prepared: Prepared, execution: Execution): AsyncGenerator<Response> {
    const { workspace, idle } = prepared;
    const result = yield* follow({
      execution,
      stage: Stage.RUNNING,
      start: this.#programStart(job, prepared),
      onStart(child) {
        feed(child, job);
        execution.started.resolve(child);
      },
      timeout: job.timeout,
      raw: job.rawOutput,
      stdinOnDemand: job.stdinStream && job.stdinOnDemand,
    });
    if ("stage" in result) {
      yield result;
      return;
    }
    const { status, wallMillis, peakBytes, inputRead } = result;
    const outcome = this.#outcome(execution, status);
    for (const output of workspace.read(job.outputs)) yield { stage: Stage.RUNNING, output };
    const { userMicros, systemMicros } = status.usage;
    yield {
      stage: outcome.kind === Kind.EXITED ? Stage.DONE : Stage.FAILED,
      exitCode: status.exitCode,
      outcome,
      ...(inputRead !== undefined && { inputRead: BigInt(inputRead) }),
      usage: {
        wallTime: duration(wallMillis * 1000),
        userTime: duration(Math.max(0, userMicros - (idle?.used.userMicros ?? 0))),
        systemTime: duration(Math.max(0, systemMicros - (idle?.used.systemMicros ?? 0))),
        peakMemoryBytes: BigInt(peakBytes),
      },
    };
  }

  /** How the program starts: in the idle interpreter, if there is one, or as a process of its own. */
  #programStart(job: Job, { workspace, project, idle }: Prepared): () => Child {
    const directory = directoryOf(job, workspace);
    const command = job.language.run(project);
    if (idle !== undefined && isDirectory(directory)) {
      return () =>
        startProgram(idle, {
          directory,
          file: command.at(-1)!,
          args: job.args,
          environment: job.environment,
        });
    }
    const isCommand = job.language.name === COMMAND;
    const user = execUserOf(job.user);
    if (job.user !== "" && user !== undefined && directory.startsWith(workspace.project)) {
      Deno.chownSync(workspace.project, user.uid, user.gid); // programs write where they are
    }
    const environment = this.#environment(job);
    if (user !== undefined) environment["HOME"] = job.environment["HOME"] || user.home;
    return () => {
      if (isCommand) makeWorkingDirectory(directory);
      return Child.spawn({
        command: [...command, ...job.args],
        environment,
        directory,
        user,
        // A command is looked up as docker does it; an interpreter is the image's own.
        ...(isCommand && { path: environment["PATH"] }),
        stdin: job.stdinStream || job.stdin.length > 0,
      });
    };
  }

  #outcome(
    execution: Execution,
    status: ChildStatus,
  ): { kind: Kind; signal: number; message: string } {
    const { signal, exitCode } = status;
    const outcome = (kind: Kind, message = "") => ({ kind, signal, message });
    if (execution.ended === "timeout") {
      return outcome(Kind.TIMED_OUT, "it ran longer than its time limit");
    }
    if (signal !== 0 && execution.ended !== undefined) {
      return outcome(Kind.KILLED, `it was ended by signal ${signal}, as asked`);
    }
    // A shell whose child was killed by signal 9 ends with 137.
    if (
      this.#options.guest &&
      (signal === SIGNAL_NUMBERS.KILL || exitCode === 128 + SIGNAL_NUMBERS.KILL)
    ) {
      if (outOfMemoryKills.happened()) {
        return outcome(Kind.OUT_OF_MEMORY, "the microVM's memory was used up");
      }
    }
    if (signal !== 0) return outcome(Kind.SIGNALED, `it was ended by signal ${signal}`);
    return outcome(Kind.EXITED);
  }
}

/** Gives the program what is known of its input; the rest comes through the Input call. */
function feed(child: Child, job: Job): void {
  if (job.stdinStream || job.stdin.length > 0) child.countInput();
  if (job.stdin.length > 0) {
    // SAFETY of types only: what protobuf decodes is never in shared memory.
    child.write(job.stdin as Uint8Array<ArrayBuffer>);
  }
  if (!job.stdinStream) child.closeInput();
}

/** Where the program runs. */
function directoryOf(job: Job, workspace: Workspace): string {
  if (job.language.name === COMMAND && job.sources.length === 0 && job.outputs.length === 0) {
    return job.commandDirectory || "/";
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

/** A protobuf Duration from microseconds. */
function duration(micros: number): { seconds: bigint; nanos: number } {
  const seconds = Math.floor(micros / 1e6);
  return { seconds: BigInt(seconds), nanos: Math.round((micros - seconds * 1e6) * 1000) };
}
