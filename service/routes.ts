/**
 * VmmService on the wire: the orchestrator behind Connect.
 *
 * @module
 */
import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { type ConnectRouter, createRouterTransport, type Transport } from "@connectrpc/connect";
import { ShutdownVmResponseSchema, VmmService } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { toConnectError } from "./connect_errors.ts";
import type { Orchestrator } from "./orchestrator.ts";

/**
 * Registers VmmService on a router.
 *
 * @param orchestrator does the work
 * @returns what `connectNodeAdapter`, `createFetchHandler` and `createRouterTransport` take
 */
export function vmmRoutes(orchestrator: Orchestrator): (router: ConnectRouter) => void {
  async function attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw toConnectError(error);
    }
  }
  return (router) => {
    router.service(VmmService, {
      async *run(request, context) {
        try {
          yield* orchestrator.run(request, context.signal);
        } catch (error) {
          throw toConnectError(error);
        }
      },
      async *fork(request, context) {
        try {
          yield* orchestrator.fork(request, context.signal);
        } catch (error) {
          throw toConnectError(error);
        }
      },
      shutdown: ({ executionId }) =>
        attempt(async () => {
          const success = executionId === ""
            ? await orchestrator.stopAll() > 0
            : await orchestrator.stop(executionId);
          return create(ShutdownVmResponseSchema, { success });
        }),
      signal: ({ executionId, signal }) =>
        attempt(async () => {
          await orchestrator.signal(executionId, signal);
          return create(EmptySchema);
        }),
      input: (requests, context) => attempt(() => orchestrator.input(requests, context.signal)),
    });
  };
}

/** A transport to the orchestrator in this process: the same calls, with no server between. */
export function inMemoryTransport(orchestrator: Orchestrator): Transport {
  return createRouterTransport(vmmRoutes(orchestrator));
}
