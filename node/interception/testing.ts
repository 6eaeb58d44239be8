/**
 * A guest's TLS, the proxy of its secrets, and a server of this host behind TLS of its own.
 *
 * @module
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer, type IncomingMessage } from "node:http";
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from "node:http2";
import { connect as connectTcp, createServer } from "node:net";
import { connect as connectTls, TLSSocket } from "node:tls";
import { type HostSecret, parseRule } from "../network.ts";
import type { Downloads } from "../downloads/downloads.ts";
import { Authority } from "./authority.ts";
import { InterceptingProxy } from "./proxy.ts";

/** Whom the secret is for. */
export const NAME = "api.example.com";
/** What the guest has not. */
export const VALUE = 'sk-live-"quoted"-0123456789';
/** What it has. */
export const PLACEHOLDER = "cloudlet00000000000000000000000000";

const SECRET: HostSecret = {
  placeholder: PLACEHOLDER,
  value: VALUE,
  hosts: [parseRule(NAME, "allow").target],
};

/** A request that the server saw. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** A server that streams both ways by HTTP/2, as gRPC's do. */
async function echo(request: Http2ServerRequest, response: Http2ServerResponse, seen: Seen[]) {
  const { method, url, headers } = request;
  const record = { method, url, headers, body: "" };
  seen.push(record);
  response.on("close", () => record.body += "|closed");
  if (url === "/reset") return void response.stream.close(11);
  response.writeHead(200, { "content-type": "application/grpc", "x-echo": headers["x-key"] ?? "" });
  for await (const piece of request) {
    record.body += piece;
    response.write(`got ${piece}`);
  }
  response.addTrailers({ "grpc-status": "0", "grpc-message": String(headers["x-key"] ?? "") });
  response.end();
}

/** Both ends, with the proxy in between. */
export async function world(
  options: { readonly trusts?: boolean; readonly http2?: boolean; readonly downloads?: Downloads } =
    {},
) {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  const upstream = await Authority.open(`${directory}/upstream`);
  const authority = await Authority.open(`${directory}/own`);
  const seen: Seen[] = [];
  const http = createHttpServer(async (request, response) => {
    if (request.url === "/compressed") {
      response.writeHead(200, { "content-encoding": "gzip" });
      return void response.end("not looked into");
    }
    if (request.url === "/endless") {
      response.on("close", () => seen.push({ method: "LEFT", url: "", headers: {}, body: "" }));
      const more = () => {
        while (response.write(new Uint8Array(65_536)));
      };
      response.on("drain", more);
      return more();
    }
    let body = "";
    for await (const part of request) body += part;
    const { method = "", url = "", headers } = request;
    seen.push({ method, url, headers, body });
    response.writeHead(200, { "x-echo": String(headers.authorization ?? "") });
    response.end(`you said ${body} with ${headers.authorization}`);
  });
  http.on("upgrade", (request, socket) => {
    seen.push({ method: "UPGRADE", url: request.url ?? "", headers: request.headers, body: "" });
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    socket.on("data", (data) => socket.write(String(data).toUpperCase()));
  });
  const http2 = createHttp2Server({}, (request, response) => {
    echo(request, response, seen).catch(() => {}); // the client has left
  });
  http2.listen(0, "127.0.0.1");
  await once(http2, "listening");
  stack.defer(() => void http2.close());
  const context = await upstream.contextOf(NAME);
  const sockets = new Set<{ destroy(): void }>();
  const server = createServer((socket) => {
    sockets.add(socket);
    const ALPNProtocols = options.http2 ? ["h2", "http/1.1"] : ["http/1.1"];
    const tls = new TLSSocket(socket, { isServer: true, secureContext: context, ALPNProtocols });
    tls.on("secure", () => {
      if (tls.alpnProtocol !== "h2") return void http.emit("connection", tls);
      const plain = connectTcp((http2.address() as { port: number }).port, "127.0.0.1");
      sockets.add(plain);
      for (const one of [plain, socket]) {
        one.on("error", () => {});
        one.on("close", () => [plain, socket].map((both) => both.destroy()));
      }
      tls.pipe(plain).pipe(tls);
    });
    tls.on("error", () => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const warnings: string[] = [];
  const proxy = stack.use(
    await InterceptingProxy.open({
      secrets: [SECRET],
      downloads: options.downloads,
      authority,
      trusted: options.trusts === false ? undefined : [upstream.certificate],
      warn: (message) => warnings.push(message),
    }),
  );
  const { port } = server.address() as { port: number };
  /** A guest's connection; undefined when it comes to nothing. */
  const guest = async (name = NAME, token = proxy.token, ALPNProtocols = ["http/1.1"]) => {
    const socket = connectTcp(proxy.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(`${token} 127.0.0.1 ${port}\n`);
    const tls = connectTls({
      ...{ socket, servername: name, ca: [authority.certificate], ALPNProtocols },
    });
    tls.on("error", () => {});
    const secure = await Promise.race([
      once(tls, "secureConnect").then(() => true, () => false),
      once(socket, "close").then(() => false),
    ]);
    return secure ? tls : undefined;
  };
  /** Sends a request as text; returns the whole answer. */
  const ask = async (...lines: string[]) => {
    const tls = await guest();
    assert(tls);
    tls.write(lines.join("\r\n"));
    let text = "";
    tls.on("data", (data) => text += data);
    await Promise.race([once(tls, "end"), once(tls, "close")]);
    tls.destroy();
    return text;
  };
  const path = `${directory}/own.pem`;
  return {
    ...{ proxy, guest, ask, seen, warnings, port },
    authority: { path, certificate: authority.certificate },
    resources: stack.move(),
  };
}
