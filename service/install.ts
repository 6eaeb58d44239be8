/**
 * Installing a run's packages, once for all runs that want the same at the same time.
 *
 * @module
 */
import { within } from "../agent/client/limits.ts";
import {
  type ExecuteResponse,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { missingFiles } from "../workload/dependencies/missing.ts";
import type { Node } from "../node/node.ts";
import type { ActiveRun } from "./active_run.ts";
import {
  asBuilding,
  installation,
  installingMachine,
  isInstalled,
  type WantedDependencies,
} from "./dependencies.ts";
import type { Followed } from "./follow.ts";
import { unlessAborted } from "./giving_up.ts";
import { debug } from "./responses.ts";
import type { RunMachines } from "./run_machine.ts";
import { RunNetwork } from "./run_network.ts";
import type { RunProgress } from "./run_progress.ts";
import type { Workload } from "./workload.ts";

/** What installing needs of the orchestrator. */
export interface InstallTools {
  readonly node: Node;
  readonly machines: RunMachines;
  /** What is to be said besides. */
  readonly remarks: RunProgress;
  /** Follows what happens in it. */
  follow(followed: Followed): AsyncGenerator<ExecuteResponse, ExecuteResponse>;
}

/** Characters of output that are looked at for what a build lacks. */
const TAIL = 64 * 1024;
/** Milliseconds that it may take to find out which package has it. */
const LOOK_UP = 60_000;

/** The end of what a tool says. */
class LastWords {
  readonly #decoder = new TextDecoder();
  text = "";

  async *of(responses: AsyncIterable<ExecuteResponse>): AsyncGenerator<ExecuteResponse> {
    for await (const response of responses) {
      const { stdout = "", stderr = "", stdoutBytes, stderrBytes } = response;
      const bytes = [stdoutBytes, stderrBytes].filter((bytes) => bytes !== undefined);
      const said = stdout + stderr + bytes.map((bytes) => this.#decoder.decode(bytes)).join("");
      this.text = (this.text + said).slice(-TAIL);
      yield response;
    }
  }
}

/** A failure, with the Debian packages that have what it lacked. */
async function explained(
  last: ExecuteResponse,
  { language, image }: Workload,
  said: string,
  node: Node,
  signal: AbortSignal,
): Promise<ExecuteResponse> {
  const missing = missingFiles(said);
  if (last.outcome?.kind !== Kind.BUILD_FAILED || missing.length === 0) return last;
  if (image?.from !== undefined) return last; // it may be of any distribution
  const name = image?.version === undefined ? language : `${language}@${image.version}`;
  using deadline = within(signal, LOOK_UP);
  const found = await node.packagesWith(name, missing, { signal: deadline.signal })
    .catch(() => new Map<string, string>()); // it failed all the same
  if (found.size === 0) return last;
  const lacks = [...found].map(([file, owner]) => `${file}, which the Debian package ${owner} has`);
  const packages = [...new Set(found.values())].map((name) => JSON.stringify(name)).join(", ");
  last.outcome.message += `; it lacks ${
    lacks.join("; and ")
  }: add [image] packages = [${packages}]`;
  return last;
}

/** See the module. */
export class Installations {
  /** Those under way, by their keys. */
  readonly #underWay = new Map<string, Promise<void>>();

  /**
   * Installs what is missing.
   *
   * @returns undefined when everything is there, or the last word of a run that ends with this
   */
  async *install(
    run: ActiveRun,
    workload: Workload,
    wanted: WantedDependencies,
    tools: InstallTools,
  ): AsyncGenerator<ExecuteResponse, ExecuteResponse | undefined> {
    const { key } = wanted;
    while (!await tools.node.hasDependencies(key)) {
      const other = this.#underWay.get(key);
      if (other === undefined) return yield* this.#install(run, workload, wanted, tools);
      yield debug(run, "another run installs the same packages; waiting for it");
      await unlessAborted(other, run.signal);
    }
    return undefined;
  }

  async *#install(
    run: ActiveRun,
    workload: Workload,
    wanted: WantedDependencies,
    { node, machines, remarks, follow }: InstallTools,
  ): AsyncGenerator<ExecuteResponse, ExecuteResponse | undefined> {
    const { key, network, installer } = wanted;
    const { signal } = run;
    const ended = Promise.withResolvers<void>();
    this.#underWay.set(key, ended.promise);
    try {
      const asked = installingMachine(workload, wanted, node.capacity.limits.memory);
      const machine = yield* machines.take(run, remarks, node.create(asked, { signal }));
      await machine.connect({ ...network, downloads: true }, { signal });
      const responses = machine.execute(installation(workload, wanted), { signal });
      const words = new LastWords();
      const last = yield* follow({
        ...{ run, machine, remarks },
        responses: words.of(asBuilding(responses, installer)),
        network: new RunNetwork(run, machine, true),
        preparing: true,
      });
      if (!isInstalled(last)) {
        await machines.leave(machine);
        return await explained(last, workload, words.text, node, signal);
      }
      await machine.keepDependencies(key, { signal });
      await machines.leave(machine);
      return undefined;
    } finally {
      this.#underWay.delete(key);
      ended.resolve();
    }
  }
}
