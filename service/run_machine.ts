/**
 * The machines of a run: each ends with it at the latest, and one that ends by itself ends the run.
 *
 * @module
 */
import type { ExecuteResponse } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { CreateEvent, Machine } from "../node/node.ts";
import type { ActiveRun } from "./active_run.ts";
import { guestEnded } from "./agent_events.ts";
import { endMachine, unlessAborted } from "./giving_up.ts";
import { machineOf } from "./node_calls.ts";
import { debug } from "./responses.ts";
import { KILLED } from "./run_ends.ts";
import type { RunProgress } from "./run_progress.ts";

/** See the module. */
export class RunMachines {
  readonly #maxTime: number;
  /** Those that were left before the run's end. */
  readonly #left = new WeakSet<Machine>();

  /** @param maxTime longest run in milliseconds, from a machine's start to the end */
  constructor(maxTime: number) {
    this.#maxTime = maxTime;
  }

  /** Waits for a place and for the machine; yields remarks. */
  async *take(
    run: ActiveRun,
    remarks: RunProgress,
    events: AsyncIterable<CreateEvent>,
  ): AsyncGenerator<ExecuteResponse, Machine> {
    const booting = machineOf(events, remarks.progress, () => this.#limitTime(run));
    run.own({ [Symbol.asyncDispose]: () => endMachine(booting) });
    const boot = remarks.during(unlessAborted(booting, run.signal));
    let step = await boot.next();
    for (; !step.done; step = await boot.next()) yield debug(run, step.value);
    run.signal.throwIfAborted();
    run.started();
    const machine = step.value;
    void machine.ended.then((reason) => this.#left.has(machine) || run.fail(guestEnded(reason)));
    return machine;
  }

  /** Ends one that the run goes on without. */
  async leave(machine: Machine): Promise<void> {
    this.#left.add(machine);
    await machine.end();
  }

  /** The run has its place: from now on its time is limited. */
  #limitTime(run: ActiveRun): void {
    if (run.verdict !== undefined) return;
    const message = `it took longer than the service allows, ${this.#maxTime / 1000} s`;
    const tooLong = setTimeout(
      () => void run.end({ outcome: "timed-out", exitCode: KILLED, message }),
      this.#maxTime,
    );
    run.own({ [Symbol.dispose]: () => clearTimeout(tooLong) });
  }
}
