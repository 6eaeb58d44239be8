/**
 * The agent's calls, over the Connect protocol.
 *
 * @module
 */
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { CloudletError, type ErrorCode } from "../base/errors.ts";
import {
  SignalRequest_Signal as Signal,
  type WorkloadRunner,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { languages } from "../workload/languages.ts";
import { awaitNetwork } from "./await_network.ts";
import { SIGNAL_NUMBERS } from "./libc.ts";
import { checkRequest, checkWarmRequest } from "../workload/request.ts";
import { GuestIdentity } from "./guest_identity.ts";
import { trust } from "./trust.ts";
import { packOverlayDiff } from "./overlay_diff.ts";
import type { Runner } from "./runner.ts";
import { countTransferred } from "./scavenge.ts";

const CODES: Record<ErrorCode, Code> = {
  "invalid-input": Code.InvalidArgument,
  "not-found": Code.NotFound,
  "untrusted": Code.PermissionDenied,
  "unavailable": Code.Unavailable,
  "exhausted": Code.ResourceExhausted,
  "denied": Code.PermissionDenied,
  "host": Code.Internal,
  "guest": Code.Internal,
  "conflict": Code.FailedPrecondition,
  "cancelled": Code.Canceled,
  "internal": Code.Internal,
};

/** An error as the protocol tells it. */
function asConnectError(error: unknown): unknown {
  if (!(error instanceof CloudletError)) return error;
  const remedy = error.remedy === undefined ? "" : `; ${error.remedy}`;
  return new ConnectError(error.message + remedy, CODES[error.code], undefined, undefined, error);
}

/** Longest time for which an execution survives its client, in seconds. */
const MAX_HOLD = 600;

const NUMBERS: Record<Signal, number> = {
  [Signal.KILL]: SIGNAL_NUMBERS.KILL,
  [Signal.TERM]: SIGNAL_NUMBERS.TERM,
  [Signal.INT]: SIGNAL_NUMBERS.INT,
};

/** The implementation of WorkloadRunner on a runner. */
export function workloadRunner(
  runner: Runner,
  version: string,
): ServiceImpl<typeof WorkloadRunner> {
  const identity = new GuestIdentity();
  /** Executions at the last resumption. */
  let startedBefore = -1;
  return {
    async *execute(request, context: HandlerContext) {
      try {
        yield* runner.execute(checkRequest(request), context.signal);
      } catch (error) {
        throw asConnectError(error);
      }
    },

    hold({ executionId, seconds }) {
      try {
        runner.hold(executionId, Math.min(seconds, MAX_HOLD));
      } catch (error) {
        throw asConnectError(error);
      }
      return {};
    },

    async *attach({ executionId }, context: HandlerContext) {
      try {
        yield* runner.attach(executionId, context.signal);
      } catch (error) {
        throw asConnectError(error);
      }
    },

    signal(request) {
      const number = NUMBERS[request.signal];
      if (number === undefined) {
        throw new ConnectError(`Cannot send signal ${request.signal}`, Code.InvalidArgument);
      }
      if (!runner.signal(request.executionId, number)) {
        throw new ConnectError("Cannot send a signal: no such execution", Code.NotFound);
      }
      return {};
    },

    async input(requests) {
      let accepted = 0n;
      let child: Awaited<ReturnType<Runner["takeInput"]>>;
      let first = true;
      let id = "";
      try {
        for await (const request of requests) {
          if (first) {
            id = request.executionId;
            child = await runner.takeInput(id);
            first = false;
          }
          if (child === undefined) break;
          // SAFETY of types only: what protobuf decodes is never in shared memory.
          const data = request.data as Uint8Array<ArrayBuffer>;
          countTransferred(data.length);
          const taken = await child.write(data);
          accepted += BigInt(taken);
          if (request.end || taken < data.length) break;
        }
        child?.closeInput();
      } catch (error) {
        // Where the execution is held for another client, that one may feed it.
        if (!runner.releaseInput(id)) child?.closeInput();
        throw asConnectError(error);
      }
      return { acceptedBytes: accepted };
    },

    info: () => ({
      version,
      languages: Object.keys(languages),
      running: runner.running,
      vmId: identity.vmId,
      clockNs: BigInt(Date.now()) * 1_000_000n,
    }),

    async warm(request) {
      try {
        const { language, needs } = checkWarmRequest(request);
        return { warm: await runner.addIdle(language, needs) };
      } catch (error) {
        throw asConnectError(error);
      }
    },

    async awaitNetwork({ authority }, context: HandlerContext) {
      try {
        if (authority !== "") trust(authority);
        await awaitNetwork(context.signal);
      } catch (error) {
        throw asConnectError(error);
      }
      return {};
    },

    async *layer({ directory }) {
      try {
        for (const data of packOverlayDiff(directory)) yield { data };
      } catch (error) {
        throw asConnectError(error);
      }
    },

    resume(request) {
      try {
        const untouched = runner.running === 0 && runner.started === startedBefore;
        identity.assume(request, untouched);
        startedBefore = runner.started;
      } catch (error) {
        throw asConnectError(error);
      }
      return {};
    },
  };
}
