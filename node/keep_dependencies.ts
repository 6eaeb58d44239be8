/**
 * What was installed in a machine, kept as a layer for machines to come.
 *
 * @module
 */
import { join } from "node:path";
import { bounded, within } from "../agent/client/limits.ts";
import { loadSettings } from "../base/settings.ts";
import { dependencyStore, LAYER } from "../builder/layers.ts";
import { ImageBudget, imageLimits } from "../builder/limits.ts";
import { DEPENDENCIES } from "../workload/dependencies/paths.ts";
import type { HostMachine } from "./host_machine.ts";
import { LAYER_TIME, layerLimits } from "./image_changes.ts";

/**
 * Keeps it.
 *
 * @param key names it; what is kept of the name already stays
 * @param memory of the machine in MiB: it can have no more
 * @throws {CloudletError} `invalid-input` when it is larger than images may be, `guest` when the machine
 *   does not send it
 */
export async function keepDependencies(
  { agent }: Pick<HostMachine, "agent">,
  key: string,
  memory: number,
  signal: AbortSignal,
): Promise<void> {
  const limits = imageLimits((await loadSettings()).images);
  using budget = new ImageBudget("the installed packages", limits, signal);
  await dependencyStore().getOrMake(
    key,
    async (directory) => {
      using sending = within(AbortSignal.any([signal, budget.signal]), LAYER_TIME);
      using file = await Deno.open(join(directory, LAYER), { createNew: true, write: true });
      const layer = agent.layer({ directory: DEPENDENCIES }, { signal: sending.signal });
      try {
        for await (
          const { data } of bounded(layer, layerLimits(memory), ({ data }) => data.length)
        ) {
          budget.addBytes(data.length); // the guest's root can send anything
          for (let rest = data; rest.length > 0;) rest = rest.subarray(await file.write(rest));
        }
      } catch (error) {
        throw budget.explain(error);
      }
    },
    () => {},
    signal,
  );
}
