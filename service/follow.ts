/**
 * Following one execution in a machine: what its agent says, passed on until its last word.
 *
 * @module
 */
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Machine } from "../node/node.ts";
import type { ActiveRun } from "./active_run.ts";
import { checkedEvents, guestEnded, isRefusal, reasonOf } from "./agent_events.ts";
import type { BuiltFiles } from "./built_files.ts";
import { debug } from "./responses.ts";
import type { RunNetwork } from "./run_network.ts";
import type { RunProgress } from "./run_progress.ts";

/** How long an agent may take to say a first word about an execution, in milliseconds. */
const FIRST_ANSWER = 600_000;

/** What is followed. */
export interface Followed {
  /** The run that it belongs to. */
  readonly run: ActiveRun;
  /** Where it takes place. */
  readonly machine: Machine;
  /** What is to be said besides. */
  readonly remarks: RunProgress;
  /** What the agent says. */
  readonly responses: AsyncIterable<ExecuteResponse>;
  /** Takes what building made; the agent runs the program itself when absent. */
  readonly built?: BuiltFiles | undefined;
  /** Whether it is not the program yet, although nothing is built. */
  readonly preparing?: boolean | undefined;
  /** What happens in its network, if it has one. */
  readonly network?: RunNetwork | undefined;
  /** See `RunLimits.firstAnswer`. */
  readonly firstAnswer?: number | undefined;
}

/**
 * Passes on what the agent says, and returns its last word.
 *
 * @throws {CloudletError} `guest` when the machine or its agent fails
 * @throws {ConnectError} what the agent refused
 */
export async function* follow(
  {
    run,
    machine,
    remarks,
    responses,
    built,
    preparing = false,
    network,
    firstAnswer = FIRST_ANSWER,
  }: Followed,
): AsyncGenerator<ExecuteResponse, ExecuteResponse> {
  const why = `its agent has said nothing for ${firstAnswer / 1000} s`;
  const silence = setTimeout(() => run.fail(guestEnded(why)), firstAnswer);
  const events = checkedEvents(responses, built !== undefined);
  try {
    for (;;) {
      const next = events.next();
      const { done, value: event } = network ? yield* network.during(next) : await next;
      if (done) break;
      clearTimeout(silence);
      run.agentKnows(machine, built === undefined && !preparing);
      run.note(event);
      for (const text of remarks.take()) yield debug(run, text);
      if (event.built !== undefined) {
        built?.add(event.built);
        continue;
      }
      if (event.stage === Stage.DONE || event.stage === Stage.FAILED) return event;
      yield event;
    }
  } catch (error) {
    // A machine that ends takes the connection with it; the reason is worth a moment's wait.
    if (!run.signal.aborted && !isRefusal(error)) {
      await reasonOf(machine, 1000).then((why) => why && run.fail(why));
    }
    run.signal.throwIfAborted(); // throws its reason
    throw error;
  } finally {
    clearTimeout(silence);
    void events.return(undefined).catch(() => {}); // it may wait for a machine that is gone
  }
  throw guestEnded("the agent closed the stream before the workload ended");
}
