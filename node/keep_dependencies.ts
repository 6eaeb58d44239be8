/**
 * What was installed in a machine, kept as a layer for machines to come.
 *
 * @module
 */
import { join } from "node:path";
import { loadSettings } from "../base/settings.ts";
import { dependencyStore, LAYER } from "../builder/layers.ts";
import { ImageBudget, imageLimits } from "../builder/limits.ts";
import { DEPENDENCIES } from "../workload/dependencies/paths.ts";
import type { HostMachine } from "./host_machine.ts";
import { receiveLayer } from "./receive_layer.ts";

/**
 * Keeps it.
 *
 * @param key names it; what is kept of the name already stays
 * @param memory of the machine in MiB: it can have no more
 * @throws {CloudletError} `invalid-input` when it is larger than images may be, `guest` when the machine
 *   does not send it
 */
export async function keepDependencies(
  machine: Pick<HostMachine, "agent">,
  key: string,
  memory: number,
  signal: AbortSignal,
): Promise<void> {
  const limits = imageLimits((await loadSettings()).images);
  using budget = new ImageBudget("the installed packages", limits, signal);
  await dependencyStore().getOrMake(
    key,
    async (directory) => {
      const path = join(directory, LAYER);
      await receiveLayer(machine, DEPENDENCIES, path, memory, budget, signal).catch((error) => {
        throw budget.explain(error);
      });
    },
    () => {},
    signal,
  );
}
