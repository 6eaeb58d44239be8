/**
 * Runs workloads, each in a machine of its own: what VmmService does, without the wire.
 *
 * @module
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { CloudletError, messageOf } from "../../base/errors.ts";
import type { Progress } from "../../base/progress.ts";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  type InputRequest,
  type InputResponse,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { RunVmmRequest } from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { ActiveRun } from "./active_run.ts";
import { Admission, type AdmissionLimits } from "./admission.ts";
import type { Machine, MachineFactory } from "./machine.ts";
import { asImageWants } from "./image_program.ts";
import { Notes } from "./notes.ts";
import { changeOf } from "./outcome.ts";
import { BuiltFiles, type PreparedWorkloads } from "./prepared.ts";
import type { RunRecord, RunStore } from "./store.ts";
import { type RunLimits, type Workload, workloadOf } from "./workload.ts";

/** What an {@linkcode Orchestrator} is made of. */
export interface OrchestratorOptions {
  /** Makes the machines. */
  readonly machines: MachineFactory;
  /** Where runs are noted; the orchestrator does not close it. */
  readonly store: RunStore;
  /** Where prepared workloads are kept. */
  readonly prepared: PreparedWorkloads;
  /** How much may run at a time. */
  readonly admission: AdmissionLimits;
  /** Bounds of one run. */
  readonly limits: RunLimits;
  /** Hears of fetching, building and booting, besides the clients that asked for it. */
  readonly progress?: Progress;
  /** Called with the record of each run that ended. */
  readonly onEnd?: (run: RunRecord) => void;
}

/** Codes with which the agent refuses a workload. */
const REFUSALS: ReadonlySet<Code> = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.FailedPrecondition,
  Code.ResourceExhausted,
]);
/** Exit code of what SIGKILL ended: 128 + 9. */
const KILLED = 137;

function response(fields: MessageInitShape<typeof ExecuteResponseSchema>): ExecuteResponse {
  return create(ExecuteResponseSchema, fields);
}

/** Runs workloads and keeps account of them. */
export class Orchestrator implements AsyncDisposable {
  readonly #options: OrchestratorOptions;
  readonly #admission: Admission;
  readonly #active = new Map<string, ActiveRun>();
  #closing = false;

  /** @param options what it is made of */
  constructor(options: OrchestratorOptions) {
    this.#options = options;
    this.#admission = new Admission(options.admission);
  }

  /** Machines and memory in use, and who waits. */
  get admission(): Pick<Admission, "machines" | "memory" | "queued" | "limits"> {
    return this.#admission;
  }

  /** False when no new run is taken because the service is about to end. */
  get open(): boolean {
    return !this.#closing;
  }

  /** Ids of the runs under way. */
  get active(): readonly string[] {
    return [...this.#active.keys()];
  }

  /**
   * Runs a workload and yields what happens. Reading slowly slows the program down; leaving off
   * ends it.
   *
   * @param request what to run
   * @param client aborted when the client leaves
   * @throws {CloudletError} `invalid-input`, `not-found` (nothing was prepared), `conflict` (the id is
   *   taken), `exhausted` (no place), `unavailable` (closing), `guest` (the machine failed)
   * @throws {ConnectError} what the agent refused
   */
  async *run(request: RunVmmRequest, client: AbortSignal): AsyncGenerator<ExecuteResponse> {
    client.throwIfAborted();
    if (this.#closing) throw closing();
    const workload = await this.#prepared(workloadOf(request, this.#options.limits));
    this.#admission.check(workload.memory); // refused before anything is streamed
    this.#options.store.add({
      id: workload.id,
      workloadName: workload.name,
      language: workload.language,
      action: workload.action,
      memory: workload.memory,
      vcpus: workload.vcpus,
    });
    const run = new ActiveRun(workload.id, this.#options.store, () => {
      this.#active.delete(workload.id);
      const record = this.#options.store.get(workload.id);
      if (record !== undefined) this.#options.onEnd?.(record);
    });
    this.#active.set(workload.id, run);
    // Not left to this generator: nobody may ever resume it once the client is gone.
    const leave = () => void run.end({ outcome: "disconnected", message: "the client left" });
    client.addEventListener("abort", leave);
    try {
      yield response({ stage: Stage.PENDING, executionId: workload.id });
      yield* this.#inMachine(run, workload);
    } catch (error) {
      if (run.verdict === undefined) {
        const refused = error instanceof CloudletError && error.code === "exhausted";
        await run.end({ outcome: refused ? "refused" : "error", message: messageOf(error) });
        throw error;
      }
      if (run.verdict.outcome !== "stopped" && run.verdict.outcome !== "timed-out") throw error;
      yield response({
        stage: Stage.FAILED,
        exitCode: KILLED,
        outcome: {
          kind: run.verdict.outcome === "stopped" ? Kind.KILLED : Kind.TIMED_OUT,
          signal: KILLED - 128,
          message: run.verdict.message ?? "",
        },
      });
    } finally {
      client.removeEventListener("abort", leave);
      await run.end({ outcome: "disconnected", message: "the client left" });
    }
  }

  /** A workload that is only to be run, with what was built when it was prepared. */
  async #prepared(workload: Workload): Promise<Workload> {
    if (workload.action !== "run") return workload;
    const execute = await this.#options.prepared.find(workload);
    return execute === undefined ? workload : { ...workload, execute };
  }

  async *#inMachine(run: ActiveRun, workload: Workload): AsyncGenerator<ExecuteResponse> {
    const { machines, progress, limits } = this.#options;
    const notes = new Notes(workload.noteLevel, progress);
    const debug = (text: string) => {
      run.log("service", text + "\n");
      return response({ stage: Stage.DEBUG, stderr: text + "\n" });
    };
    run.own(await this.#admission.acquire(workload.memory, run.signal));
    const tooLong = setTimeout(
      () =>
        void run.end({
          outcome: "timed-out",
          exitCode: KILLED,
          message: `it took longer than the service allows, ${limits.maxTime / 1000} s`,
        }),
      limits.maxTime,
    );
    run.own({ [Symbol.dispose]: () => clearTimeout(tooLong) });
    const booting = machines({ ...workload, signal: run.signal, progress: notes.progress });
    run.own({
      async [Symbol.asyncDispose]() {
        const machine = await booting.catch(() => undefined);
        await machine?.[Symbol.asyncDispose]();
      },
    });
    const boot = notes.during(booting);
    let step = await boot.next();
    for (; !step.done; step = await boot.next()) yield debug(step.value);
    const machine = step.value;
    run.signal.throwIfAborted();
    run.started();
    void machine.ended.then((reason) => run.fail(guestEnded(reason)));

    const execute = asImageWants(workload.execute, machine.program);
    const built = new BuiltFiles();
    try {
      for await (const event of machine.agent.execute(execute, { signal: run.signal })) {
        run.agentKnows(machine);
        event.executionId = ""; // told already, in the first response
        run.note(event);
        for (const text of notes.take()) yield debug(text);
        if (event.built !== undefined) {
          if (workload.action === "prepare") built.add(event.built);
          continue;
        }
        if (workload.action === "prepare" && event.outcome?.kind === Kind.PREPARED) {
          await this.#options.prepared.save(workload, built.files);
        }
        if (event.stage === Stage.DONE || event.stage === Stage.FAILED) {
          // The account is closed before the client hears of it, and however slowly it listens.
          void run.end(changeOf(event));
          yield event;
          return;
        }
        yield event;
      }
    } catch (error) {
      // A machine that ends takes the connection with it; the reason is worth a moment's wait.
      if (!run.signal.aborted && !isRefusal(error)) {
        await reasonOf(machine, 1000).then((why) => why && run.fail(why));
      }
      run.signal.throwIfAborted(); // throws its reason
      throw error;
    }
    throw guestEnded("the agent closed the stream before the workload ended");
  }

  /**
   * Sends a signal to a run, or to all of them when `id` is empty.
   *
   * @throws {CloudletError} `not-found` when there is no such run
   */
  async signal(id: string, signal: Signal): Promise<void> {
    const runs = id === "" ? [...this.#active.values()] : [this.#find(id)];
    await Promise.all(runs.map(async (run) => {
      if (run.machine !== undefined) {
        await run.machine.agent.signal({ executionId: run.id, signal }, { signal: run.signal });
      } else if (signal === Signal.KILL || signal === Signal.TERM || signal === Signal.INT) {
        await run.end(stoppedBy("a signal before it had begun"));
      }
    }));
  }

  /**
   * Feeds a run's standard input.
   *
   * @throws {CloudletError} `not-found` when there is no such run, `invalid-input` without a request
   */
  async input(requests: AsyncIterable<InputRequest>, client: AbortSignal): Promise<InputResponse> {
    const iterator = requests[Symbol.asyncIterator]();
    const first = await iterator.next();
    if (first.done) {
      throw new CloudletError("Cannot feed a run: the request names none", {
        code: "invalid-input",
        remedy: "send the run's execution_id in the first request",
      });
    }
    const run = this.#find(first.value.executionId);
    const machine = await run.whenAgentKnows;
    async function* all(): AsyncGenerator<InputRequest> {
      yield first.value!;
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        yield next.value;
      }
    }
    return await machine.agent.input(all(), { signal: AbortSignal.any([client, run.signal]) });
  }

  /**
   * Ends a run and its machine at once.
   *
   * @returns false when there is no such run under way
   */
  async stop(id: string, why = "on request"): Promise<boolean> {
    const run = this.#active.get(id);
    if (run === undefined) return false;
    await run.end(stoppedBy(why));
    return true;
  }

  /** Ends all runs at once. @returns how many there were */
  async stopAll(why = "on request"): Promise<number> {
    const ids = this.active;
    await Promise.all(ids.map((id) => this.stop(id, why)));
    return ids.length;
  }

  /**
   * Takes no new run, asks the programs to end, and ends what still runs after `grace`
   * milliseconds.
   */
  async close(grace: number): Promise<void> {
    this.#closing = true;
    const runs = [...this.#active.values()];
    if (runs.length === 0) return;
    const { promise: graceOver, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, grace);
    await Promise.all(runs.map((run) => this.signal(run.id, Signal.TERM).catch(() => {})));
    await Promise.race([Promise.all(runs.map((run) => run.ended)), graceOver]);
    clearTimeout(timer);
    await this.stopAll("the service ends");
  }

  /** Ends all runs at once and takes no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(0);
  }

  #find(id: string): ActiveRun {
    const run = this.#active.get(id);
    if (run !== undefined) return run;
    throw new CloudletError(`Cannot reach the run ${JSON.stringify(id)}: it is not under way`, {
      code: "not-found",
      remedy: "`cloudlet ps` lists the runs",
    });
  }
}

function closing(): CloudletError {
  return new CloudletError("Cannot start the run: the service is about to end", {
    code: "unavailable",
    remedy: "try again when it is back",
  });
}

function stoppedBy(why: string) {
  return {
    outcome: "stopped",
    exitCode: KILLED,
    message: `the microVM was stopped: ${why}`,
  } as const;
}

function guestEnded(reason: string): CloudletError {
  return new CloudletError(`Cannot finish the run: the microVM ended: ${reason}`, {
    code: "guest",
    remedy: "give it more memory, or report the message if it persists",
  });
}

/** Why a machine ended, if it does within `patience` milliseconds. */
async function reasonOf(machine: Machine, patience: number): Promise<CloudletError | undefined> {
  const { promise: later, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), patience);
  const reason = await Promise.race([machine.ended, later]);
  clearTimeout(timer);
  return reason === undefined ? undefined : guestEnded(reason);
}

/** Whether the agent itself said no, so that its machine is alive. */
function isRefusal(error: unknown): boolean {
  return error instanceof ConnectError && REFUSALS.has(error.code);
}
