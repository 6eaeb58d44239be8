/**
 * Requests to the servers that get secrets, at the address that was checked: HTTP/2 where the guest speaks
 * it and the server does too, as gRPC needs, else HTTP/1.1.
 *
 * @module
 */
import { Agent as PlainAgent, request as httpRequest } from "node:http";
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { Agent, request as httpsRequest } from "node:https";
import type { Writable } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { once } from "node:events";
import type { Outgoing } from "./request.ts";

/** A server. */
export interface Server {
  readonly address: string;
  readonly port: number;
  /** What its certificate has to be for; undefined for one without TLS. */
  readonly name: string | undefined;
}

/** What it answered. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: AsyncIterable<Uint8Array>;
  /** Fields behind the body (RFC 9110 section 6.5), known when that has ended. */
  trailers(): IncomingHttpHeaders;
}

/** A request under way. */
export interface Exchange {
  /** Takes the request's body; an error of it is one of the answer. */
  readonly body: Writable;
  readonly answer: Promise<Answer>;
  /** Gives it up. */
  cancel(): void;
}

/** Milliseconds: of a handshake, and of a request in which nothing happens. */
const HANDSHAKE = 30_000;
const IDLE = 300_000;
/** RFC 9113 section 7. */
const CANCEL = 8;

/** See the module. */
export class Upstream implements Disposable {
  readonly #trusted: readonly string[] | undefined;
  readonly #agent: Agent;
  readonly #plain: PlainAgent;
  /** By server; undefined is one that speaks HTTP/1.1 only. */
  readonly #sessions = new Map<string, Promise<ClientHttp2Session | undefined>>();
  readonly #open = new Set<{ destroy(): unknown }>();
  #closed = false;

  /**
   * @param connections most at once
   * @param trusted certificates (PEM) in the place of those that this process trusts
   */
  constructor(connections: number, trusted: readonly string[] | undefined) {
    this.#trusted = trusted;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
    this.#plain = new PlainAgent({ keepAlive: true, maxSockets: connections });
  }

  /**
   * Begins a request.
   *
   * @param http2 whether the guest speaks HTTP/2
   * @param hasBody whether a body follows; the exchange's has to be ended all the same
   * @throws {Error} when the server cannot be reached; with HTTP/1.1 the answer rejects instead
   */
  async ask(
    server: Server,
    asked: Outgoing,
    http2: boolean,
    hasBody: boolean,
  ): Promise<Exchange> {
    const { name } = server;
    const session = http2 && name !== undefined ? await this.#session(server, name) : undefined;
    return session === undefined
      ? askHttp1(this.request(server, asked))
      : askHttp2(session, name!, asked, hasBody);
  }

  /** The same by HTTP/1.1, for WebSockets too. */
  request({ address, port, name }: Server, { method, path, headers }: Outgoing): ClientRequest {
    const options = { host: address, port, method, path, headers, setHost: false, timeout: IDLE };
    const request = name === undefined
      ? httpRequest({ ...options, agent: this.#plain })
      : httpsRequest({ ...options, servername: name, agent: this.#agent, ...this.#ca() });
    request.on("timeout", () => request.destroy(new Error("it does not answer")));
    return request;
  }

  #ca() {
    return this.#trusted === undefined ? {} : { ca: [...this.#trusted] };
  }

  #session(server: Server, name: string): Promise<ClientHttp2Session | undefined> {
    const key = `${server.address} ${server.port} ${name}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const forget = () => this.#sessions.delete(key);
    const made = this.#connect(server, name, forget);
    this.#sessions.set(key, made);
    made.catch(forget);
    return made;
  }

  async #connect(
    { address, port }: Server,
    name: string,
    forget: () => void,
  ): Promise<ClientHttp2Session | undefined> {
    const socket = connectTls({
      ...{ host: address, port, servername: name, ALPNProtocols: ["h2", "http/1.1"] },
      ...this.#ca(),
    });
    const late = setTimeout(() => socket.destroy(new Error("it does not answer")), HANDSHAKE);
    try {
      await this.#secured(socket);
    } finally {
      clearTimeout(late);
    }
    if (socket.alpnProtocol !== "h2") {
      socket.destroy();
      return undefined;
    }
    const session = connectHttp2(`https://${name}`, { createConnection: () => socket });
    this.#open.add(session);
    session.on("error", () => session.destroy());
    session.on("goaway", forget);
    session.on("close", () => {
      forget();
      this.#open.delete(session);
    });
    return session;
  }

  async #secured(socket: TLSSocket): Promise<void> {
    this.#open.add(socket);
    socket.on("close", () => this.#open.delete(socket));
    const closed = once(socket, "close").then(() => {
      throw new Error("the connection was closed");
    });
    closed.catch(() => {});
    await Promise.race([once(socket, "secureConnect"), closed]);
    socket.on("error", () => socket.destroy());
    if (!this.#closed) return;
    socket.destroy();
    throw new Error("the machine has ended");
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#agent.destroy();
    this.#plain.destroy();
    for (const one of this.#open) one.destroy();
  }
}

function askHttp1(request: ClientRequest): Exchange {
  const answer = (once(request, "response") as Promise<[IncomingMessage]>).then(([got]) => ({
    status: got.statusCode ?? 502,
    headers: got.headers,
    body: got,
    trailers: () => got.trailers as IncomingHttpHeaders,
  }));
  return { body: request, answer, cancel: () => request.destroy() };
}

function askHttp2(
  session: ClientHttp2Session,
  name: string,
  asked: Outgoing,
  hasBody: boolean,
): Exchange {
  const { host: _, ...headers } = asked.headers;
  const stream = session.request({
    ":method": asked.method,
    ":scheme": "https",
    ":authority": name,
    ":path": asked.path,
    ...headers,
    te: "trailers", // RFC 9113 section 8.2.2: the one that may stand there; gRPC wants it
  }, { endStream: !hasBody });
  stream.setTimeout(IDLE, () => stream.close(CANCEL));
  let trailers: IncomingHttpHeaders = {};
  stream.on("trailers", (fields: IncomingHttpHeaders) => trailers = fields);
  stream.on("error", () => {}); // those who wait hear of it
  const closed = once(stream, "close").then(() => {
    throw new Error("it ended the request without an answer");
  });
  closed.catch(() => {});
  const answered = once(stream, "response") as Promise<[IncomingHttpHeaders]>;
  const answer = Promise.race([answered, closed]).then(([headers]) => ({
    status: Number(headers[":status"]),
    headers,
    body: stream,
    trailers: () => trailers,
  }));
  return { body: stream, answer, cancel: () => stream.close(CANCEL) };
}
