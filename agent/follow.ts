/**
 * Follows one process of an execution, the compiler or the program, from its start to its end.
 *
 * @module
 */
import { messageOf } from "../base/errors.ts";
import {
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Child, ChildStatus } from "./child.ts";
import type { Execution, Response } from "./execution.ts";
import { sessionActivity } from "./descendants.ts";
import { StartError } from "./find_program.ts";
import { InputDemand } from "./input_demand.ts";
import { LastWords } from "./last_words.ts";
import { SIGNAL_NUMBERS } from "./libc.ts";
import { MemoryWatch } from "./memory_watch.ts";
import { TextOutput } from "./text_output.ts";

/** What to follow, and how. */
export interface FollowOptions {
  readonly execution: Execution;
  readonly stage: Stage;
  /** Starts the process, or has an idle interpreter become it. */
  readonly start: () => Child;
  /** Called once it runs, before any of its output is read. */
  readonly onStart?: (child: Child) => void;
  /** Milliseconds; no limit when undefined. */
  readonly timeout: number | undefined;
  /** Whether its output is sent as bytes, not as text. */
  readonly raw: boolean;
  /** Whether to say when it waits for input. */
  readonly stdinOnDemand?: boolean;
}

/** How a process ended. */
export interface Followed {
  readonly status: ChildStatus;
  /** Milliseconds from its start to its end. */
  readonly wallMillis: number;
  /** Peak memory in bytes; 0 when it is not known. */
  readonly peakBytes: number;
  /** Bytes of its input that were read; undefined when that is not known. */
  readonly inputRead: number | undefined;
}

/** A last response, for a process that did not start. */
export type NotStarted = Response & { stage: Stage };

/** Yields what the process writes; returns how it ended, or a last response when it did not start. */
export async function* follow(
  { execution, stage, start, onStart, timeout, raw, stdinOnDemand = false }: FollowOptions,
): AsyncGenerator<Response, Followed | NotStarted> {
  let child: Child;
  const began = performance.now();
  try {
    child = start();
  } catch (error) {
    return {
      stage: Stage.FAILED,
      outcome: { kind: Kind.NOT_STARTED, message: messageOf(error) },
      ...(error instanceof StartError && { exitCode: error.exitCode }),
    };
  }
  execution.child = child;
  if (execution.ended !== undefined) child.kill(SIGNAL_NUMBERS.KILL); // asked for between two commands
  const timer = timeout === undefined ? undefined : setTimeout(() => {
    execution.ended ??= "timeout";
    child.kill(SIGNAL_NUMBERS.KILL);
  }, timeout);
  try {
    if (onStart !== undefined) {
      onStart(child);
      yield { stage, inputLater: stdinOnDemand };
    }
    let demand = stdinOnDemand ? new InputDemand(performance.now()) : undefined;
    const text = raw ? undefined : new TextOutput();
    const memory = new MemoryWatch(child.pid);
    let wallMillis = 0;
    let waited = 0;
    let lastWords: LastWords | undefined;
    for (;;) {
      const step = lastWords?.next(waited);
      if (step?.kind === "over") break; // something in another session holds the pipe
      if (step?.kind === "kill") {
        child.kill(SIGNAL_NUMBERS.KILL); // what is left of the group
        continue;
      }
      if (step?.kind === "look") {
        lastWords!.looked(sessionActivity(child.pid), waited);
        continue;
      }
      const asked = performance.now();
      const patience = step?.milliseconds ?? demand?.wait(asked);
      const event = await child.next(patience && Math.ceil(patience));
      const now = performance.now();
      waited += now - asked;
      if (event.kind === "ended") break;
      if (event.kind === "timeout") {
        lastWords?.silent(waited);
      } else if (event.kind === "exited") {
        wallMillis = now - began;
        lastWords = new LastWords(waited, timeout === undefined ? undefined : timeout - wallMillis);
        clearTimeout(timer);
        demand = undefined;
      } else {
        lastWords?.wrote(event.bytes.length, waited);
        const response = text === undefined
          ? { stage, [`${event.kind}Bytes`]: event.bytes }
          : text.response(stage, event.kind, event.bytes);
        if (response !== undefined) yield response;
        memory.look(now - began); // when what was written is on its way
      }
      if (demand?.wait(now) !== 0) continue;
      if (child.wantsInput(demand.isOfAll(now))) {
        demand = undefined;
        yield { stage, inputWanted: true };
      } else demand.looked(now, performance.now());
    }
    const status = child.reap();
    const rest = text?.end(stage);
    if (rest !== undefined) yield rest;
    const peakBytes = memory.peak(status.usage.peakBytes);
    return { status, wallMillis, peakBytes, inputRead: child.inputRead };
  } finally {
    clearTimeout(timer);
    execution.child = undefined;
    child[Symbol.dispose]();
  }
}
