/**
 * VmmService on a TCP port without TLS: gRPC over HTTP/2, Connect and gRPC-Web over either HTTP
 * version.
 *
 * Node's HTTP servers, since gRPC needs trailers, which Deno.serve does not send. A cleartext
 * HTTP/2 client that was not told otherwise begins with the connection preface (RFC 9113 section
 * 3.4), so the first bytes tell the version.
 *
 * @module
 */
import { concatBytes } from "../base/bytes.ts";
import { createServer as createHttp1Server } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Orchestrator } from "./orchestrator.ts";
import { type NodeRequest, type NodeResponse, refuse } from "./refusal.ts";
import { vmmRoutes } from "./routes.ts";

/** What a request says before its body. */
export interface RequestHead {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  /** What the client calls the server, `HOST[:PORT]`: the Host field, HTTP/2's :authority, or both. */
  readonly authorities: readonly string[];
  /** A field's value by its name in lower case; undefined when it is absent. */
  field(name: string): string | undefined;
}

/** How VmmService is offered. */
export interface VmmServerOptions {
  /** Address to listen on. */
  readonly hostname: string;
  /** TCP port; 0 takes a free one. */
  readonly port: number;
  /** Largest request message in bytes. */
  readonly maxMessage: number;
  /**
   * Called with the head of each request, before its body is read; the caller hears of what it
   * throws. A number in the error's `status` is the HTTP status.
   */
  readonly admit?: (head: RequestHead) => void;
}

/** A server that listens. */
export interface VmmServer extends AsyncDisposable {
  /** The port that it listens on. */
  readonly port: number;
}

const PREFACE = "PRI "; // no HTTP/1.1 method begins so
const FIRST_BYTES_WITHIN = 10_000; // ms; a client that says nothing is not kept

/**
 * Starts VmmService.
 *
 * @throws {CloudletError} `conflict` when the address is taken, `host` when it cannot be used
 */
export async function serveVmm(
  orchestrator: Orchestrator,
  options: VmmServerOptions,
): Promise<VmmServer> {
  const service = connectNodeAdapter({
    routes: vmmRoutes(orchestrator),
    readMaxBytes: options.maxMessage,
  });
  const handler = (request: NodeRequest, response: NodeResponse) => {
    try {
      options.admit?.(headOf(request));
    } catch (error) {
      return refuse(request, response, error);
    }
    service(request, response);
  };
  const http1 = createHttp1Server(handler);
  const http2 = createHttp2Server({}, handler);
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy()); // the peer is gone; its run ends by the abort
    sniff(socket, (isHttp2) => (isHttp2 ? http2 : http1).emit("connection", socket));
  });
  await listen(server, options);
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : options.port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function headOf({ method = "", url = "", headers }: NodeRequest): RequestHead {
  const field = (name: string) => {
    const value = headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
  const authorities = [field("host"), field(":authority")].filter((name) => name !== undefined);
  return { method, path: url.split("?", 1)[0]!, authorities, field };
}

function listen(
  server: ReturnType<typeof createTcpServer>,
  { hostname, port }: VmmServerOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const taken = "code" in cause && cause.code === "EADDRINUSE";
      reject(
        new CloudletError(`Cannot listen on ${hostname}:${port}: ${messageOf(cause)}`, {
          code: taken ? "conflict" : "host",
          remedy: taken ? "stop what uses the port, or choose another" : "choose another address",
          cause,
        }),
      );
    });
    server.listen(port, hostname, () => resolve());
  });
}

/** Reads just enough to tell the version of HTTP, and puts it back. */
function sniff(socket: Socket, decide: (isHttp2: boolean) => void): void {
  let seen: Uint8Array = new Uint8Array();
  const timer = setTimeout(() => socket.destroy(), FIRST_BYTES_WITHIN);
  socket.once("close", () => clearTimeout(timer));
  const look = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
      seen = concatBytes([seen, chunk]);
    }
    const start = new TextDecoder("latin1").decode(seen.subarray(0, PREFACE.length));
    if (start.length < PREFACE.length && PREFACE.startsWith(start)) return; // too little to tell
    clearTimeout(timer);
    socket.off("readable", look);
    socket.unshift(seen);
    decide(start === PREFACE);
  };
  socket.on("readable", look);
}
