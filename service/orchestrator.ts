/**
 * Runs workloads, each in a machine of its own: what VmmService does, without the wire.
 *
 * @module
 */
import { checkRequest } from "../workload/request.ts";
import { unusualNeeds } from "../workload/interpreter_needs.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import {
  ExecuteRequest_Action as Action,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  type InputRequest,
  type InputResponse,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { ForkRequest, RunVmmRequest } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { ActiveRun } from "./active_run.ts";
import { checkCapacity, checkMemory } from "../node/admission.ts";
import { asImageWants } from "../node/image_program.ts";
import type { MachineNetwork } from "../node/network.ts";
import type { Capacity, Machine, Node } from "../node/node.ts";
import { BuiltFiles } from "./built_files.ts";
import { forAction } from "./agent_events.ts";
import { imageWith, type WantedDependencies, wantedDependencies } from "./dependencies.ts";
import { follow, type Followed } from "./follow.ts";
import { Installations } from "./install.ts";
import { endWith, response } from "./responses.ts";
import { unlessAborted } from "./giving_up.ts";
import { kept } from "./node_calls.ts";
import { RunMachines } from "./run_machine.ts";
import { RunNetwork } from "./run_network.ts";
import { type RemarkLevel, RunProgress } from "./run_progress.ts";
import { isBuilt, type PreparedWorkloads, workloadKey } from "./prepared.ts";
import { closing, KILLED, stoppedBy } from "./run_ends.ts";
import type { NewRun, RunRecord, RunStore } from "./run_store.ts";
import {
  newRunId,
  remarkLevelOf,
  type RunLimits,
  withProgram,
  type Workload,
  workloadOf,
} from "./workload.ts";

/** What an {@linkcode Orchestrator} is made of. */
export interface OrchestratorOptions {
  /** Makes the machines; ends with the orchestrator. */
  readonly node: Node;
  /** Where runs are noted; the orchestrator does not close it. */
  readonly store: RunStore;
  /** Where prepared workloads are kept. */
  readonly prepared: PreparedWorkloads;
  /** Bounds of one run. */
  readonly limits: RunLimits;
  /** Hears of fetching, building and booting, besides the clients that asked for it. */
  readonly progress?: Progress;
  /** Called with the record of each run that ended. */
  readonly onEnd?: (run: RunRecord) => void;
}

/** Runs workloads and keeps account of them. */
export class Orchestrator implements AsyncDisposable {
  readonly #options: OrchestratorOptions;
  readonly #node: Node;
  readonly #active = new Map<string, ActiveRun>();
  readonly #machines: RunMachines;
  readonly #installations = new Installations();
  #closing = false;

  /** @param options what it is made of */
  constructor(options: OrchestratorOptions) {
    this.#options = options;
    this.#node = options.node;
    this.#machines = new RunMachines(options.limits.maxTime);
  }

  /** Machines and memory in use, and who waits: at this moment. */
  get admission(): Capacity {
    return this.#node.capacity;
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
   * Checks a request as {@linkcode run} does, but for what changes by the moment.
   *
   * @throws {CloudletError} `invalid-input`
   */
  check(request: RunVmmRequest): void {
    const { memory } = workloadOf(request, this.#options.limits);
    checkMemory(this.#node.capacity.limits, memory);
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
    const asked = await withProgram(workloadOf(request, this.#options.limits));
    client.throwIfAborted();
    const found = asked.action === "run" ? await this.#options.prepared.find(asked) : undefined;
    const workload = found === undefined ? asked : { ...asked, execute: found };
    checkCapacity(this.#node.capacity, workload.memory); // refused before anything is streamed
    const wanted = await this.#wanted(workload, found !== undefined);
    client.throwIfAborted();
    yield* this.#account(
      {
        id: workload.id,
        runName: workload.runName,
        workloadName: workload.name,
        language: workload.language,
        action: workload.action,
        memory: workload.memory,
        vcpus: workload.vcpus,
      },
      workload.id,
      client,
      (run) => this.#inMachine(run, workload, found !== undefined, wanted),
    );
  }

  /** What has to be installed for a workload; what was built elsewhere has it in itself. */
  async #wanted(workload: Workload, found: boolean): Promise<WantedDependencies | undefined> {
    if (!workload.build.install || found && isBuilt(workload.language)) return undefined;
    return await wantedDependencies(workload, this.#node);
  }

  /**
   * Copies a run with its machine, and yields what the copy does from there on.
   *
   * @param request which run
   * @param client aborted when the client leaves
   * @throws {CloudletError} `not-found`, `conflict` (its program does not run yet, or its machine cannot
   *   be copied), and as {@linkcode run}
   */
  async *fork(request: ForkRequest, client: AbortSignal): AsyncGenerator<ExecuteResponse> {
    client.throwIfAborted();
    if (this.#closing) throw closing();
    const original = this.#find(request.executionId);
    const { machine } = original;
    const record = this.#options.store.get(original.id);
    if (machine?.facts.forkable !== true || record === undefined) {
      throw new CloudletError(
        `Cannot fork the run ${original.id}: ${
          machine === undefined ? "its program does not run yet" : "its machine cannot be copied"
        }`,
        { code: "conflict", remedy: "fork it when its program runs, in a microVM" },
      );
    }
    const id = newRunId(request.forkId);
    const level = remarkLevelOf(request.logLevel);
    checkCapacity(this.#node.capacity, record.memory);
    const { workloadName, language, memory, vcpus } = record;
    yield* this.#account(
      { id, workloadName, language, action: "fork", memory, vcpus },
      original.agentId,
      client,
      (run) => this.#inFork(run, machine, original.network, level),
    );
  }

  /** Writes a run down, from its first response to its end. */
  async *#account(
    record: NewRun,
    agentId: string,
    client: AbortSignal,
    work: (run: ActiveRun) => AsyncGenerator<ExecuteResponse>,
  ): AsyncGenerator<ExecuteResponse> {
    client.throwIfAborted(); // it may have left before this is listened for
    const { id } = record;
    this.#options.store.add(record);
    const ended = () => {
      this.#active.delete(id);
      const record = this.#options.store.get(id);
      if (record !== undefined) this.#options.onEnd?.(record);
    };
    const run = new ActiveRun(id, this.#options.store, ended, agentId);
    this.#active.set(id, run);
    // Not left to this generator: nobody may ever resume it once the client is gone.
    const leave = () => void run.end({ outcome: "disconnected", message: "the client left" });
    client.addEventListener("abort", leave);
    try {
      yield response({ stage: Stage.PENDING, executionId: id });
      yield* work(run);
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

  async *#inMachine(
    run: ActiveRun,
    workload: Workload,
    found: boolean,
    wanted: WantedDependencies | undefined,
  ): AsyncGenerator<ExecuteResponse> {
    const { progress, prepared } = this.#options;
    const { action, language, id, memory, vcpus, packages } = workload;
    const remarks = new RunProgress(workload.remarkLevel, progress);
    let { image } = workload;
    if (wanted !== undefined) {
      const failed = yield* this.#installations.install(run, workload, wanted, {
        ...{ node: this.#node, machines: this.#machines, remarks },
        follow: (followed) => this.#follow(followed),
      });
      if (failed !== undefined) return yield* endWith(run, failed);
      image = imageWith(image, wanted.key);
    }
    const layer = found || action === "prepare" || isBuilt(language)
      ? workloadKey(workload)
      : undefined;
    const asked = {
      ...{ id, language, memory, vcpus, packages, image, layer },
      // The variables of an image, which are not known yet, let no interpreter wait.
      needs: image?.from === undefined ? unusualNeeds(checkRequest(workload.execute)) : undefined,
      rebuild: action === "prepare",
    };
    const { signal } = run;
    const machine = yield* this.#machines.take(run, remarks, this.#node.create(asked, { signal }));
    const { facts } = machine;
    let execute = asImageWants(workload.execute, facts.program);
    // What is built has no network, whatever the program has.
    const buildsFirst = workload.network !== undefined && !found && isBuilt(language);
    if (!facts.prepared && (action === "prepare" || facts.keepable || buildsFirst)) {
      const built = new BuiltFiles();
      const first = forAction(execute, Action.PREPARE, layer!, action !== "prepare");
      const responses = machine.execute(first, { signal });
      const last = yield* this.#follow({ run, machine, remarks, responses, built });
      if (last.outcome?.kind === Kind.PREPARED) {
        if (action === "prepare") await prepared.save(workload, built.files);
        if (facts.keepable) await kept(machine.keep({ signal }), remarks.progress);
      }
      if (last.outcome?.kind !== Kind.PREPARED || action === "prepare") {
        return yield* endWith(run, last);
      }
    }
    if (facts.prepared || facts.keepable || buildsFirst) {
      execute = forAction(execute, Action.RUN, layer!);
    }
    const network = workload.network && await RunNetwork.plug(run, machine, workload.network);
    const responses = machine.execute(execute, { signal });
    yield* endWith(run, yield* this.#follow({ run, machine, remarks, responses, network }));
  }

  async *#inFork(
    run: ActiveRun,
    original: Machine,
    asked: MachineNetwork | undefined,
    level: RemarkLevel,
  ): AsyncGenerator<ExecuteResponse> {
    const remarks = new RunProgress(level, this.#options.progress);
    const { id, agentId: execution, signal } = run;
    // The ports of this host are the original's.
    const shared = asked?.policy && { ...asked, publish: [] };
    const events = original.fork({ id, execution, network: shared }, { signal });
    const machine = yield* this.#machines.take(run, remarks, events);
    run.network = shared;
    const network = shared && new RunNetwork(run, machine);
    const responses = machine.attach({ executionId: execution }, { signal });
    yield* endWith(run, yield* this.#follow({ run, machine, remarks, responses, network }));
  }

  #follow(followed: Followed): AsyncGenerator<ExecuteResponse, ExecuteResponse> {
    return follow({ ...followed, firstAnswer: this.#options.limits.firstAnswer });
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
        await run.machine.signal({ executionId: run.agentId, signal }, { signal: run.signal });
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
    const machine = await unlessAborted(run.whenAgentKnows, client);
    async function* all(): AsyncGenerator<InputRequest> {
      yield { ...first.value!, executionId: run.agentId };
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        yield next.value;
      }
    }
    return await machine.input(all(), { signal: AbortSignal.any([client, run.signal]) });
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
   * milliseconds, whether or not their agents answer.
   */
  async close(grace: number): Promise<void> {
    this.#closing = true;
    const runs = [...this.#active.values()];
    if (runs.length === 0) return;
    const { promise: graceOver, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, grace);
    for (const run of runs) void this.signal(run.id, Signal.TERM).catch(() => {}); // it may be deaf
    await Promise.race([Promise.all(runs.map((run) => run.ended)), graceOver]);
    clearTimeout(timer);
    await this.stopAll("the service ends");
  }

  /** Ends all runs at once and takes no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(0);
    await this.#node[Symbol.asyncDispose]();
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
