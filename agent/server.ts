/**
 * Serves WorkloadRunner over vsock, or over a Unix socket where there is no microVM.
 *
 * @module
 */
import { createConnectRouter } from "@connectrpc/connect";
import {
  universalServerRequestFromFetch,
  universalServerResponseToFetch,
} from "@connectrpc/connect/protocol";
import { WorkloadRunner } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { AGENT_PORT, READY_PORT } from "../workload/vsock_ports.ts";
import { LIMITS } from "../workload/request.ts";
import { serveDial } from "./dial.ts";
import type { Runner } from "./runner.ts";
import { workloadRunner } from "./service.ts";

/** Where to serve. */
export type ServerAddress =
  | { readonly transport: "vsock"; readonly port: number }
  | { readonly transport: "unix"; readonly path: string };

const ANY_CID = -1; // VMADDR_CID_ANY of include/uapi/linux/vm_sockets.h
const HOST_CID = 2; // VMADDR_CID_HOST

/** Tells the host that the agent listens; a host that does not listen is no error. */
async function announce(): Promise<void> {
  try {
    using host = await Deno.connect({ transport: "vsock", cid: HOST_CID, port: READY_PORT });
    await host.write(new TextEncoder().encode(`${AGENT_PORT}\n`));
  } catch {
    // the host finds out by itself
  }
}

/**
 * Serves until the process ends.
 *
 * @param onListen called when clients can connect
 */
export function serveAgent(
  runner: Runner,
  address: ServerAddress,
  version: string,
  onListen: () => void,
): Deno.HttpServer<Deno.Addr> {
  const router = createConnectRouter({
    grpc: false,
    grpcWeb: false,
    readMaxBytes: LIMITS.message,
    writeMaxBytes: LIMITS.message,
  });
  router.service(WorkloadRunner, workloadRunner(runner, version));
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));

  const answer = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    const handler = handlers.get(pathname);
    if (handler === undefined) return new Response("no such call\n", { status: 404 });
    return universalServerResponseToFetch(
      await handler(universalServerRequestFromFetch(request, { httpVersion: "1.1" })),
    );
  };

  if (address.transport === "unix") {
    return Deno.serve({ path: address.path, onListen }, answer);
  }
  serveDial(); // first: whoever hears that the agent is ready may call at once
  return Deno.serve({
    transport: "vsock",
    cid: ANY_CID,
    port: address.port,
    onListen() {
      onListen();
      announce();
    },
  }, answer);
}
