/**
 * What happens in a run's network, told between what its agent says.
 *
 * @module
 */
import type { Machine } from "../node/node.ts";
import type { MachineNetwork, MachineNetworkEvent } from "../node/network.ts";
import { EventQueue } from "../node/progress_events.ts";
import type { ExecuteResponse } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { ActiveRun } from "./active_run.ts";
import { networkEvent } from "./network.ts";
import { debug } from "./responses.ts";

/** What happens in the network of one run. */
export class RunNetwork {
  readonly #run: ActiveRun;
  readonly #building: boolean;
  readonly #events = new EventQueue<MachineNetworkEvent>();

  /** Gives a machine its network, and listens to it. */
  static async plug(run: ActiveRun, machine: Machine, asked: MachineNetwork): Promise<RunNetwork> {
    await machine.connect(asked, { signal: run.signal });
    run.network = asked;
    return new RunNetwork(run, machine);
  }

  /**
   * Listens until the run or the machine ends.
   *
   * @param run that hears of it
   * @param machine whose network it is
   * @param building whether it is not the program's
   */
  constructor(run: ActiveRun, machine: Machine, building = false) {
    this.#run = run;
    this.#building = building;
    void this.#listen(machine).catch(() => {}); // the machine is gone, and with it its network
  }

  async #listen(machine: Machine): Promise<void> {
    for await (const event of machine.networkEvents({ signal: this.#run.signal })) {
      this.#events.push(event);
    }
  }

  /**
   * Yields what happens until `work` ends, and returns what it gives.
   *
   * @throws what `work` throws
   */
  async *during<T>(work: Promise<T>): AsyncGenerator<ExecuteResponse, T> {
    const events = this.#events.during(work);
    let step = await events.next();
    for (; !step.done; step = await events.next()) {
      yield Object.assign(debug(this.#run, inWords(step.value)), {
        network: { ...networkEvent(step.value), building: this.#building },
      });
    }
    return step.value;
  }
}

/** What a person reads in the log of a run. */
export function inWords(event: MachineNetworkEvent): string {
  if (event.kind === "denied") {
    const { what, name, address, port, rule, floor } = event;
    const place = `${name ?? address}${port === undefined ? "" : `:${port}`}`;
    const why = rule !== undefined
      ? `the rule ${rule}`
      : floor
      ? "only a rule for just this address allows it"
      : "no rule allows it";
    const behind = name !== undefined && address !== undefined ? ` (${address})` : "";
    return `denied ${what === "name" ? "the look-up of " : ""}${place}${behind}: ${why}`;
  }
  if (event.kind === "secret") return event.message;
  const { address, port, guestPort } = event;
  return event.kind === "published"
    ? `port ${guestPort} is published on ${address}:${port}`
    : `a client of ${address}:${port} was reset: nothing listens on port ${guestPort}`;
}
