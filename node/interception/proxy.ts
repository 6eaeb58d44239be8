/**
 * Where a guest's TLS ends when it talks to a host that gets a secret: the placeholder that the guest has
 * is replaced by the value in the request, and the value by the placeholder in the answer. While packages
 * are installed all connections come this way, and what servers let others have is kept for others.
 *
 * The guest's connections come from the network stack of its own VM, by a port of this host's loopback:
 * each begins with a line that only that stack knows, and the address that was checked.
 *
 * @module
 */
import { timingSafeEqual } from "node:crypto";
import { createServer as createHttpServer, type IncomingMessage, ServerResponse } from "node:http";
import { createServer as createHttp2Server, type Http2Session } from "node:http2";
import { connect, createServer, type Server, type Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { once } from "node:events";
import { concatBytes } from "../../base/bytes.ts";
import { type HostSecret, matchesName } from "../network.ts";
import type { Authority } from "./authority.ts";
import type { Downloads } from "../downloads/downloads.ts";
import { type Destination, serveRequest, serveUpgrade } from "./exchange.ts";
import { Upstream } from "./upstream.ts";

/** What a proxy works with. */
export interface ProxyOptions {
  readonly secrets: readonly HostSecret[];
  /** Whose certificates the guest believes. */
  readonly authority: Authority;
  /** Certificates (PEM) that are trusted in the place of those that this process trusts. */
  readonly trusted?: readonly string[] | undefined;
  /** What is fetched is kept here, from all servers; without it only those of secrets come this way. */
  readonly downloads?: Downloads | undefined;
  /** Hears of what could not be done. */
  readonly warn: (message: string) => void;
}

/** Milliseconds: of the first line and the handshake, and of a connection in which nothing happens. */
const HANDSHAKE = 30_000;
const IDLE = 300_000;
/** Milliseconds after which a guest that says nothing waits for the server's first word. */
const SILENCE = 300;
/** RFC 8446 section 5.1: ContentType handshake. */
const TLS_HANDSHAKE = 22;
/** RFC 9112 section 3: how a request begins. */
const REQUEST = /^[A-Z]{3,7} [/h]/;
/** Of the guest; each that speaks HTTP/2 has one of the proxy to itself besides. */
const MOST_CONNECTIONS = 512;
/** Requests that one HTTP/2 connection has at once. */
const MOST_STREAMS = 256;
/** Longest first line: the token, an address, a port. */
const MOST_LINE = 128;

function newToken(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toHex();
}

function same(given: string, wanted: string): boolean {
  const [one, other] = [given, wanted].map((text) => new TextEncoder().encode(text));
  return one!.length === other!.length && timingSafeEqual(one!, other!);
}

/** See the module. */
export class InterceptingProxy implements AsyncDisposable {
  /** What a connection has to begin with. */
  readonly token: string = newToken();
  readonly #options: ProxyOptions;
  readonly #sockets = new Set<Socket>();
  /** By the TLS connection, or by the HTTP/2 session. */
  readonly #destinations = new WeakMap<object, Destination>();
  /** HTTP/2 of the guest whose plain side has still to come, by its token. */
  readonly #plain = new Map<string, Destination>();
  readonly #upstream: Upstream;
  readonly #server: Server = createServer({ pauseOnConnect: true });
  readonly #http1 = createHttpServer({ keepAliveTimeout: IDLE, requestTimeout: 0 });
  readonly #http2 = createHttp2Server({ settings: { maxConcurrentStreams: MOST_STREAMS } });

  private constructor(options: ProxyOptions) {
    this.#options = options;
    this.#upstream = new Upstream(MOST_CONNECTIONS, options.trusted);
    this.#server.maxConnections = 2 * MOST_CONNECTIONS;
    this.#server.on("connection", (socket) => void this.#accept(socket));
    const { warn, downloads } = options;
    const ways = { upstream: this.#upstream, downloads, warn };
    this.#http1.on("request", (request, response) => {
      const to = this.#destinations.get(request.socket);
      if (to === undefined) return void request.socket.destroy();
      void serveRequest(request, response, to, ways);
    });
    this.#http1.on("upgrade", (request, socket, head) => {
      const to = this.#destinations.get(socket);
      if (to === undefined) return void socket.destroy();
      if (/^h2c$/i.test(request.headers.upgrade ?? "")) {
        return void serveRequest(request, plainResponse(request, socket as Socket), to, ways);
      }
      serveUpgrade(request, socket as Socket, head, to, this.#upstream);
    });
    this.#http2.on("request", (request, response) => {
      const session = request.stream.session;
      const to = session && this.#destinations.get(session);
      if (to === undefined) return void request.stream.destroy();
      void serveRequest(request, response, to, ways);
    });
    this.#http2.on("sessionError", () => {}); // its connection has ended
  }

  /** Listens on a free port of 127.0.0.1. */
  static async open(options: ProxyOptions): Promise<InterceptingProxy> {
    const proxy = new InterceptingProxy(options);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  /** Where it listens. */
  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** One connection; never rejects. */
  async #accept(socket: Socket): Promise<void> {
    try {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => socket.destroy());
      const late = setTimeout(() => socket.destroy(), HANDSHAKE);
      socket.on("close", () => clearTimeout(late));
      const [token = "", address = "", port = ""] = await firstLine(socket) ?? [];
      const plain = this.#plain.get(token);
      if (plain !== undefined) {
        clearTimeout(late);
        return this.#speakHttp2(socket, token, plain);
      }
      if (!same(token, this.token)) return void socket.destroy();
      const to = { address, port: Number(port) };
      const kind = this.#options.downloads === undefined ? "tls" : await firstWords(socket);
      if (kind !== "tls") {
        clearTimeout(late);
        return kind === "http" ? this.#speakPlainHttp(socket, to) : joinTo(socket, to);
      }
      const tls = this.#secured(socket, to, () => clearTimeout(late));
      tls.on("error", () => socket.destroy()); // the guest does not believe us, say
    } catch {
      socket.destroy(); // it was reset, say
    }
  }

  /** TLS with the guest, which says what host it means. */
  #secured(
    socket: Socket,
    to: Pick<Destination, "address" | "port">,
    done: () => void,
  ): TLSSocket {
    let destination: Destination | undefined;
    const tls = new TLSSocket(socket, {
      isServer: true,
      ALPNProtocols: ["h2", "http/1.1"],
      SNICallback: (given, answer) => {
        const name = given.toLowerCase();
        const secrets = this.#options.secrets.filter(({ hosts }) =>
          hosts.some((host) => matchesName(host, name))
        );
        if (secrets.length === 0 && this.#options.downloads === undefined) {
          return answer(new Error("not for this server"));
        }
        destination = { ...to, name, secrets };
        this.#options.authority.contextOf(name)
          .then((context) => answer(null, context), (error) => answer(error));
      },
    });
    tls.on("secure", () => {
      done();
      if (destination === undefined) return void socket.destroy();
      if (tls.alpnProtocol === "h2") return this.#toPlain(tls, socket, destination);
      this.#destinations.set(tls, destination);
      this.#http1.emit("connection", tls);
    });
    return tls;
  }

  #speakPlainHttp(socket: Socket, to: Pick<Destination, "address" | "port">): void {
    this.#destinations.set(socket, { ...to, name: undefined, secrets: [] });
    this.#http1.emit("connection", socket);
    socket.resume(); // it was paused, which a new listener does not end
  }

  /** Under Deno an HTTP/2 server hears nothing from a TLSSocket: it gets a plain connection instead. */
  #toPlain(tls: TLSSocket, socket: Socket, destination: Destination): void {
    const token = newToken();
    this.#plain.set(token, destination);
    const plain = connect(this.port, "127.0.0.1");
    this.#sockets.add(plain);
    const end = () => {
      this.#plain.delete(token);
      this.#sockets.delete(plain);
      plain.destroy();
      socket.destroy();
    };
    for (const one of [plain, socket]) {
      one.on("error", end);
      one.on("close", end);
    }
    plain.write(`${token}\n`);
    tls.pipe(plain).pipe(tls);
  }

  #speakHttp2(socket: Socket, token: string, destination: Destination): void {
    this.#plain.delete(token);
    const named = (session: Http2Session) => this.#destinations.set(session, destination);
    this.#http2.once("session", named);
    this.#http2.emit("connection", socket);
    this.#http2.off("session", named);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    this.#upstream[Symbol.dispose]();
    await closed;
  }
}

/**
 * The answer to a request that would go on with HTTP/2 (curl's, and so cargo's, without TLS): RFC 9110
 * section 7.8, "A server MAY ignore a received Upgrade header field".
 */
function plainResponse(request: IncomingMessage, socket: Socket): ServerResponse {
  const response = new ServerResponse(request);
  response.assignSocket(socket);
  response.shouldKeepAlive = false;
  response.on("finish", () => socket.end());
  return response;
}

/** What a guest begins with, which is left to read; `other` is what no proxy understands. */
async function firstWords(socket: Socket): Promise<"tls" | "http" | "other"> {
  socket.resume();
  const { promise: silence, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), SILENCE);
  const bytes = await Promise.race([nextPiece(socket), silence]);
  clearTimeout(timer);
  socket.pause();
  if (bytes === undefined) return "other";
  socket.unshift(bytes);
  if (bytes[0] === TLS_HANDSHAKE) return "tls";
  return REQUEST.test(new TextDecoder("latin1").decode(bytes.subarray(0, 16))) ? "http" : "other";
}

/** Joins a connection with its server, whatever they speak. */
function joinTo(socket: Socket, { address, port }: Pick<Destination, "address" | "port">): void {
  const server = connect(port, address);
  for (const [one, other] of [[socket, server], [server, socket]] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
  socket.pipe(server).pipe(socket);
}

/** The next bytes of a connection that flows; undefined when it closes before. */
async function nextPiece(socket: Socket): Promise<Uint8Array | undefined> {
  const closed = once(socket, "close").then(() => [undefined]);
  const [piece] = await Promise.race([once(socket, "data"), closed]);
  return piece as Uint8Array | undefined;
}

/** The words of a connection's first line; what follows is left to read. */
async function firstLine(socket: Socket): Promise<string[] | undefined> {
  let seen: Uint8Array = new Uint8Array(0);
  socket.resume();
  while (!seen.includes(0x0a)) {
    if (seen.length > MOST_LINE) return undefined;
    const piece = await nextPiece(socket);
    if (piece === undefined) return undefined;
    seen = concatBytes([seen, piece]);
  }
  socket.pause();
  const end = seen.indexOf(0x0a);
  if (end + 1 < seen.length) socket.unshift(seen.subarray(end + 1));
  return new TextDecoder().decode(seen.subarray(0, end)).split(" ");
}
