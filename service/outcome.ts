/**
 * How the agent's last word is written down.
 *
 * @module
 */
import type { Duration } from "@bufbuild/protobuf/wkt";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { RunChange, RunOutcome } from "./run_store.ts";

const OUTCOMES: Readonly<Record<Kind, RunOutcome>> = {
  [Kind.EXITED]: "exited",
  [Kind.SIGNALED]: "signaled",
  [Kind.TIMED_OUT]: "timed-out",
  [Kind.OUT_OF_MEMORY]: "out-of-memory",
  [Kind.KILLED]: "killed",
  [Kind.BUILD_FAILED]: "build-failed",
  [Kind.NOT_STARTED]: "not-started",
  [Kind.PREPARED]: "prepared",
};

function milliseconds(duration: Duration | undefined): number | null {
  return duration === undefined ? null : Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}

/** The name of a kind of outcome, for records and for JSON. */
export function outcomeName(kind: Kind): RunOutcome {
  return (OUTCOMES as Record<number, RunOutcome>)[kind] ?? "error"; // a newer agent's kind
}

/** What the last response of an execution changes in the record of the run. */
export function changeOf(last: ExecuteResponse): RunChange & { outcome: RunOutcome } {
  const { usage, outcome, exitCode } = last;
  const peak = usage === undefined ? null : Number(usage.peakMemoryBytes);
  return {
    outcome: outcomeName(outcome?.kind ?? Kind.EXITED),
    state: last.stage === Stage.DONE ? "done" : "failed",
    exitCode: exitCode ?? null,
    message: outcome?.message || null,
    wallTime: milliseconds(usage?.wallTime),
    userTime: milliseconds(usage?.userTime),
    systemTime: milliseconds(usage?.systemTime),
    peakMemory: peak !== null && Number.isSafeInteger(peak) ? peak : null,
  };
}
