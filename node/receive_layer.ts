/**
 * A layer that a machine's agent sends: what is below a directory of the guest.
 *
 * @module
 */
import { bounded, type StreamLimits, within } from "../agent/client/limits.ts";
import { writeAll } from "../base/streams.ts";
import type { ImageBudget } from "../builder/limits.ts";
import type { HostMachine } from "./host_machine.ts";

/** How long sending a layer may take, in milliseconds. */
const LAYER_TIME = 3_600_000;

/**
 * What a machine may send of a layer: its memory twice, since an archive has holes as zeros, and a
 * header for each file. The agent's pieces have 256 KiB.
 *
 * @param memory MiB
 */
function layerLimits(memory: number): StreamLimits {
  const bytes = (2 * memory + 64) * 2 ** 20;
  return { bytes, messages: 1000 + bytes / 65536 };
}

/**
 * Writes a layer to a new file.
 *
 * @param directory of the guest
 * @param path of the layer, an uncompressed tar archive
 * @param memory of the machine in MiB: it can have no more
 * @param budget what the layer may take
 * @param signal ends the work early
 */
export async function receiveLayer(
  { agent }: Pick<HostMachine, "agent">,
  directory: string,
  path: string,
  memory: number,
  budget: ImageBudget,
  signal: AbortSignal,
): Promise<void> {
  using file = await Deno.open(path, { createNew: true, write: true });
  using sending = within(AbortSignal.any([signal, budget.signal]), LAYER_TIME);
  const layer = agent.layer({ directory }, { signal: sending.signal });
  for await (const { data } of bounded(layer, layerLimits(memory), ({ data }) => data.length)) {
    budget.addBytes(data.length); // the guest's root can send anything
    await writeAll(file, data);
  }
}
