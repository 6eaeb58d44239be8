/**
 * Installing a run's packages, once for all runs that want the same at the same time.
 *
 * @module
 */
import type { ExecuteResponse } from "../proto/gen/cloudlet/agent/agent_pb.ts";
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
      const last = yield* follow({
        ...{ run, machine, remarks },
        responses: asBuilding(responses, installer),
        network: new RunNetwork(run, machine, true),
        preparing: true,
      });
      if (!isInstalled(last)) return last;
      await machine.keepDependencies(key, { signal });
      await machines.leave(machine);
      return undefined;
    } finally {
      this.#underWay.delete(key);
      ended.resolve();
    }
  }
}
