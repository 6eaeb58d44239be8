/**
 * VmmService for Connect and gRPC-Web clients on the port of the HTTP API, so that
 * `cloudlet run --remote` needs only one address. (gRPC itself needs HTTP/2 trailers, which
 * Deno.serve does not send: service/server.ts has it.)
 *
 * @module
 */
import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import {
  universalServerRequestFromFetch,
  universalServerResponseToFetch,
} from "@connectrpc/connect/protocol";
import type { Hono } from "hono";

/**
 * Adds the routes of VmmService to an application.
 *
 * @param app the application
 * @param routes registers the service
 * @param maxMessage largest request message in bytes
 */
export function mountConnect(
  app: Hono,
  routes: (router: ConnectRouter) => void,
  maxMessage: number,
): void {
  const router = createConnectRouter({ grpc: false, readMaxBytes: maxMessage });
  routes(router);
  for (const handler of router.handlers) {
    app.post(handler.requestPath, async (c) => {
      // Deno.serve tells no HTTP version; bodies stream over either.
      const request = universalServerRequestFromFetch(c.req.raw, { httpVersion: "2" });
      return universalServerResponseToFetch(await handler(request));
    });
  }
}
