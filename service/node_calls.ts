/**
 * What the service asks of a node, with the events on the way as progress.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { CreateEvent, KeepEvent, Machine } from "../node/node.ts";
import { ProgressReporter } from "../node/progress_events.ts";

/**
 * The machine that a node makes.
 *
 * @param events of `create` or `fork`
 * @param progress hears of the way
 * @param admitted called when the request left the node's queue
 */
export async function machineOf(
  events: AsyncIterable<CreateEvent>,
  progress: Progress,
  admitted: () => void,
): Promise<Machine> {
  using reporter = new ProgressReporter(progress);
  for await (const event of events) {
    if (event.kind === "machine") return event.machine;
    if (event.kind === "admitted") admitted();
    else reporter.report(event);
  }
  throw new CloudletError("Cannot start the microVM: its node made none", { code: "internal" });
}

/**
 * Waits until a machine was kept.
 *
 * @returns false when it could not be
 */
export async function kept(
  events: AsyncIterable<KeepEvent>,
  progress: Progress,
): Promise<boolean> {
  using reporter = new ProgressReporter(progress);
  for await (const event of events) {
    if (event.kind === "kept") return event.kept;
    reporter.report(event);
  }
  return false;
}
