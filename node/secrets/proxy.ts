/**
 * Where a guest's TLS ends when it talks to a host that gets a secret: the placeholder that the guest has
 * is replaced by the value in the request, and the value by the placeholder in the answer.
 *
 * The guest's connections come from the network stack of its own VM, by a port of this host's loopback:
 * each begins with a line that only that stack knows, and the address that was checked.
 *
 * @module
 */
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { createServer, type Server, type Socket } from "node:net";
import { timingSafeEqual } from "node:crypto";
import { TLSSocket } from "node:tls";
import { once } from "node:events";
import { concatBytes } from "../../base/bytes.ts";
import { messageOf } from "../../base/errors.ts";
import { type HostSecret, matchesName } from "../network.ts";
import type { Authority } from "./authority.ts";
import { drained } from "../drained.ts";
import { answered, backwards, outgoing } from "./request.ts";
import { type Replacement, Replacer } from "./substitution.ts";

/** What a proxy works with. */
export interface SecretProxyOptions {
  readonly secrets: readonly HostSecret[];
  /** Whose certificates the guest believes. */
  readonly authority: Authority;
  /** Certificates (PEM) that are trusted in the place of those that this process trusts. */
  readonly trusted?: readonly string[] | undefined;
  /** Hears of what could not be done. */
  readonly warn: (message: string) => void;
}

/** Milliseconds: of the first line and the handshake, and of a connection in which nothing happens. */
const HANDSHAKE = 30_000;
const IDLE = 300_000;
const MOST_CONNECTIONS = 512;
/** Longest first line: the token, an address, a port. */
const MOST_LINE = 128;

/** A connection of the guest. */
interface Destination {
  readonly address: string;
  readonly port: number;
  name: string;
  secrets: readonly HostSecret[];
}

/** See the module. */
export class SecretProxy implements AsyncDisposable {
  /** What a connection has to begin with. */
  readonly token: string = crypto.getRandomValues(new Uint8Array(32)).toHex();
  readonly #options: SecretProxyOptions;
  readonly #sockets = new Set<Socket>();
  readonly #destinations = new WeakMap<object, Destination>();
  readonly #agent = new Agent({ keepAlive: true, maxSockets: MOST_CONNECTIONS });
  readonly #server: Server = createServer({ pauseOnConnect: true });
  readonly #http = createHttpServer({ keepAliveTimeout: IDLE, requestTimeout: 0 });

  private constructor(options: SecretProxyOptions) {
    this.#options = options;
    this.#server.maxConnections = MOST_CONNECTIONS;
    this.#server.on("connection", (socket) => void this.#accept(socket));
    this.#http.on("request", (request, response) => void this.#serve(request, response));
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /** Listens on a free port of 127.0.0.1. */
  static async open(options: SecretProxyOptions): Promise<SecretProxy> {
    const proxy = new SecretProxy(options);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  /** Where it listens. */
  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** One connection, to its TLS; never rejects. */
  async #accept(socket: Socket): Promise<void> {
    try {
      await this.#handshake(socket);
    } catch {
      socket.destroy(); // it was reset, say
    }
  }

  async #handshake(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    const late = setTimeout(() => socket.destroy(), HANDSHAKE);
    socket.on("close", () => clearTimeout(late));
    const destination = await this.#firstLine(socket);
    if (destination === undefined) return void socket.destroy();
    const tls = new TLSSocket(socket, {
      isServer: true,
      ALPNProtocols: ["http/1.1"],
      SNICallback: (name, done) => {
        destination.name = name.toLowerCase();
        destination.secrets = this.#options.secrets.filter(({ hosts }) =>
          hosts.some((host) => matchesName(host, destination.name))
        );
        if (destination.secrets.length === 0) return done(new Error("not for this server"));
        this.#options.authority.contextOf(destination.name)
          .then((context) => done(null, context), (error) => done(error));
      },
    });
    tls.on("error", () => socket.destroy()); // the guest does not believe us, say
    tls.on("secure", () => {
      clearTimeout(late);
      if (destination.name === "") return void socket.destroy();
      this.#destinations.set(tls, destination);
      this.#http.emit("connection", tls);
    });
  }

  /** The line of the stack: token, address, port. */
  async #firstLine(socket: Socket): Promise<Destination | undefined> {
    let seen: Uint8Array = new Uint8Array(0);
    socket.resume();
    while (!seen.includes(0x0a)) {
      if (seen.length > MOST_LINE) return undefined;
      const [piece] = await Promise.race([
        once(socket, "data"),
        once(socket, "close").then(() => [undefined]),
      ]);
      if (piece === undefined) return undefined;
      seen = concatBytes([seen, piece as Uint8Array]);
    }
    socket.pause();
    const end = seen.indexOf(0x0a);
    const [token = "", address = "", port = ""] = new TextDecoder().decode(seen.subarray(0, end))
      .split(" ");
    const [given, wanted] = [token, this.token].map((text) => new TextEncoder().encode(text));
    if (given!.length !== wanted!.length || !timingSafeEqual(given!, wanted!)) return undefined;
    socket.unshift(seen.subarray(end + 1));
    return { address, port: Number(port), name: "", secrets: [] };
  }

  /** One request; never rejects. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const destination = this.#destinations.get(request.socket);
    if (destination === undefined) return void request.socket.destroy();
    const { name, secrets } = destination;
    const host = hostOf(request);
    if (host !== name) return refuse(response, 421, `the request is for ${host}, not for ${name}`);
    const coding = request.headers["content-encoding"];
    if (coding !== undefined && coding !== "identity") {
      this.#options.warn(`A body for ${name} was refused: its encoding is ${coding}`);
      return refuse(
        response,
        415,
        `a secret cannot be put into a body with the encoding ${coding}; send it without one`,
      );
    }
    const asked = outgoing(request, name, secrets);
    delete asked.headers["content-length"]; // it may be another one
    try {
      const body = await wholeBody(request, asked.body);
      if (body instanceof Uint8Array && hasBody(request)) {
        asked.headers["content-length"] = String(body.length);
      }
      const upstream = this.#ask(destination, asked);
      const answer = once(upstream, "response") as Promise<[IncomingMessage]>;
      answer.catch(() => {});
      response.on("close", () => upstream.destroy());
      if (body instanceof Uint8Array) upstream.end(body);
      else {
        for await (const piece of body) {
          if (!upstream.write(piece)) await drained(upstream);
        }
        upstream.end();
      }
      const [got] = await answer;
      const unasked = got.headers["content-encoding"] ?? "identity";
      if (unasked !== "identity") throw new Error(`its answer has the encoding ${unasked}`);
      response.writeHead(got.statusCode ?? 502, answered(got.headers, secrets));
      const replacer = new Replacer(backwards(secrets));
      for await (const piece of got) {
        if (!response.write(replacer.push(piece as Uint8Array))) await drained(response);
      }
      response.end(replacer.end());
    } catch (error) {
      const why = messageOf(error);
      this.#options.warn(`${name} could not be reached with its secret: ${why}`);
      if (response.headersSent) response.destroy();
      else refuse(response, 502, `${name} cannot be reached: ${why}`);
    }
  }

  #ask({ address, port, name }: Destination, asked: ReturnType<typeof outgoing>) {
    const { trusted } = this.#options;
    const { method, path, headers } = asked;
    const upstream = httpsRequest({
      ...{ host: address, port, servername: name, method, path, headers, agent: this.#agent },
      setHost: false,
      timeout: IDLE,
      ...(trusted && { ca: [...trusted] }),
    });
    upstream.on("timeout", () => upstream.destroy(new Error("it does not answer")));
    return upstream;
  }

  /** WebSockets: the first request has the secret, what follows is passed on as it is. */
  #upgrade(request: IncomingMessage, client: Socket | object, head: Uint8Array): void {
    const socket = client as Socket;
    const destination = this.#destinations.get(client);
    if (destination === undefined || hostOf(request) !== destination.name) {
      return void socket.destroy();
    }
    const asked = outgoing(request, destination.name, destination.secrets);
    asked.headers["connection"] = "Upgrade";
    asked.headers["upgrade"] = String(request.headers.upgrade ?? "websocket");
    const upstream = this.#ask(destination, asked);
    socket.on("error", () => upstream.destroy());
    upstream.on("error", () => socket.destroy());
    upstream.on("response", () => socket.destroy()); // it would not
    upstream.on("upgrade", (got, server, first) => {
      const fields = Object.entries(answered(got.headers, destination.secrets)).flatMap((
        [name, value],
      ) => [value].flat().map((text) => `${name}: ${text}\r\n`));
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n` +
          `upgrade: ${asked.headers["upgrade"]}\r\n${fields.join("")}\r\n`,
      );
      // Under Deno an empty write holds up those behind it.
      if (first.length > 0) socket.write(first);
      if (head.length > 0) server.write(head);
      server.on("error", () => socket.destroy());
      socket.pipe(server).pipe(socket);
    });
    upstream.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    this.#agent.destroy();
    await closed;
  }
}

/** The host that a request is for: behind a shared address another one would get what is this one's. */
function hostOf({ headers }: IncomingMessage): string {
  return String(headers.host ?? "").toLowerCase().replace(/:443$/, "");
}

/** Bytes of a body that are gathered, so that its length is known beforehand. */
const MOST_GATHERED = 4 << 20;

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined;
}

/** A body with its length known, replaced as a whole; one without, or a large one, as a stream. */
async function wholeBody(
  request: IncomingMessage,
  replacements: readonly Replacement[],
): Promise<Uint8Array | AsyncIterable<Uint8Array>> {
  const length = Number(request.headers["content-length"] ?? (hasBody(request) ? Infinity : 0));
  const stream = replacedPieces(request, replacements);
  if (!(length <= MOST_GATHERED)) return stream;
  return concatBytes(await Array.fromAsync(stream));
}

async function* replacedPieces(
  source: AsyncIterable<unknown>,
  replacements: readonly Replacement[],
): AsyncGenerator<Uint8Array> {
  const replacer = new Replacer(replacements);
  for await (const piece of source) yield replacer.push(piece as Uint8Array);
  yield replacer.end();
}

function refuse(response: ServerResponse, status: number, why: string): void {
  response.writeHead(status, { "content-type": "text/plain" });
  response.end(`cloudlet: ${why}\n`);
}
