/**
 * What an agent says about an execution: asked for, checked, and why it may come to nothing.
 *
 * @module
 */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { CloudletError } from "../base/errors.ts";
import {
  type ExecuteRequest,
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  type ExecuteResponse,
  OptionsSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Machine } from "../node/node.ts";

/** Characters of the words about an execution's end. */
const MAX_MESSAGE = 4096;
/** Events of one execution that carry neither output nor files; the agent sends a handful. */
const MAX_BARE = 1000;

/** Codes with which the agent refuses a workload. */
const REFUSALS: ReadonlySet<Code> = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.AlreadyExists,
  Code.FailedPrecondition,
  Code.ResourceExhausted,
]);

/** Whether the agent itself said no, so that its machine is alive. */
export function isRefusal(error: unknown): boolean {
  return error instanceof ConnectError && REFUSALS.has(error.code);
}

/**
 * The same workload with another action. To run what is prepared in the machine, no files are sent.
 *
 * @param layer names it: machines with the same files share a snapshot, whatever a client calls them
 * @param builtStays what is built need not be sent back
 */
export function forAction(
  execute: ExecuteRequest,
  action: Action,
  layer: string,
  builtStays = false,
): ExecuteRequest {
  const options = execute.options ?? create(OptionsSchema);
  return create(ExecuteRequestSchema, {
    ...execute,
    workloadName: layer,
    action,
    ...(action === Action.RUN && { code: "" }),
    options: { ...options, builtStays, ...(action === Action.RUN && { files: [], built: [] }) },
  });
}

/**
 * Passes on what an agent says, less what it must not: the guest's root may have replaced it.
 *
 * @param takesBuilt whether it was asked for what building makes
 * @throws {CloudletError} `guest` for what no agent sends
 */
export async function* checkedEvents(
  responses: AsyncIterable<ExecuteResponse>,
  takesBuilt: boolean,
): AsyncGenerator<ExecuteResponse> {
  let bare = 0;
  for await (const event of responses) {
    event.executionId = ""; // told already, in the first response
    delete event.network; // the service's word
    if (event.outcome !== undefined) {
      event.outcome.message = event.outcome.message.slice(0, MAX_MESSAGE);
    }
    if (event.built !== undefined && !takesBuilt) {
      throw misbehaves("it sends files that nobody asked for");
    }
    if (isBare(event) && ++bare > MAX_BARE) throw misbehaves("it sends events without an end");
    yield event;
  }
}

function isBare({ stdout, stderr, stdoutBytes, stderrBytes, output, built }: ExecuteResponse) {
  return !stdout && !stderr && !stdoutBytes?.length && !stderrBytes?.length &&
    output === undefined && built === undefined;
}

function misbehaves(why: string): CloudletError {
  return new CloudletError(`Cannot finish the run: the agent of the microVM misbehaves: ${why}`, {
    code: "guest",
  });
}

/** The error for a machine that ended. */
export function guestEnded(reason: string): CloudletError {
  return new CloudletError(`Cannot finish the run: the microVM ended: ${reason}`, {
    code: "guest",
    remedy: "give it more memory, or report the message if it persists",
  });
}

/** Why a machine ended, if it does within `patience` milliseconds. */
export async function reasonOf(
  machine: Machine,
  patience: number,
): Promise<CloudletError | undefined> {
  const { promise: later, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), patience);
  const reason = await Promise.race([machine.ended, later]);
  clearTimeout(timer);
  return reason === undefined ? undefined : guestEnded(reason);
}
