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
import { StartError } from "./find_program.ts";
import { SIGNAL_NUMBERS } from "./libc.ts";
import { MemoryWatch } from "./memory_watch.ts";
import { TextOutput } from "./text_output.ts";

/** How long a process's children may go on writing after it has ended, in milliseconds. */
const GRACE = 250;
/** How much may still come out of the pipes when all writers are killed: one pipe's limit each. */
const MAX_REMAINDER = 2 * 1024 * 1024;

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
}

/** How a process ended. */
export interface Followed {
  readonly status: ChildStatus;
  /** Milliseconds from its start to its end. */
  readonly wallMillis: number;
  /** Peak memory in bytes; 0 when it is not known. */
  readonly peakBytes: number;
}

/** A last response, for a process that did not start. */
export type NotStarted = Response & { stage: Stage };

/** Yields what the process writes; returns how it ended, or a last response when it did not start. */
export async function* follow(
  { execution, stage, start, onStart, timeout, raw }: FollowOptions,
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
      yield { stage };
    }
    const text = raw ? undefined : new TextOutput();
    const memory = new MemoryWatch(child.pid);
    let wallMillis = 0;
    let deadline: number | undefined;
    let remainder: number | undefined; // bytes still allowed, once all writers are killed
    for (;;) {
      const event = await child.next(
        deadline === undefined ? undefined : Math.max(0, Math.ceil(deadline - performance.now())),
      );
      const now = performance.now();
      if (event.kind === "ended") break;
      if (event.kind === "exited") {
        wallMillis = now - began;
        deadline = now + GRACE;
        clearTimeout(timer);
      } else if (event.kind !== "timeout") {
        if (remainder !== undefined) remainder -= event.bytes.length;
        const response = text === undefined
          ? { stage, [`${event.kind}Bytes`]: event.bytes }
          : text.response(stage, event.kind, event.bytes);
        if (response !== undefined) yield response;
        memory.look(now - began); // when what was written is on its way
      }
      if (deadline === undefined || performance.now() < deadline) continue;
      if (remainder === undefined) {
        child.kill(SIGNAL_NUMBERS.KILL); // what is left of the group
        remainder = MAX_REMAINDER;
        deadline = performance.now() + GRACE;
      } else if (event.kind === "timeout" || remainder <= 0) {
        break; // something in another session holds the pipe
      }
    }
    const status = child.reap();
    const rest = text?.end(stage);
    if (rest !== undefined) yield rest;
    return { status, wallMillis, peakBytes: memory.peak(status.usage.peakBytes) };
  } finally {
    clearTimeout(timer);
    execution.child = undefined;
    child[Symbol.dispose]();
  }
}
