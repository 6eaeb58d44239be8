/**
 * One request of a guest to a host that gets a secret: checked, sent on with the value, answered without it.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Socket } from "node:net";
import type { Writable } from "node:stream";
import { concatBytes } from "../../base/bytes.ts";
import { messageOf } from "../../base/errors.ts";
import { drained } from "../drained.ts";
import type { HostSecret } from "../network.ts";
import type { Downloads } from "../downloads/downloads.ts";
import { answered, backwards, type Outgoing, outgoing } from "./request.ts";
import { type Replacement, Replacer } from "./substitution.ts";
import type { Answer, Server, Upstream } from "./upstream.ts";

/** Where a connection of the guest goes, and what may be put into it. */
export interface Destination extends Server {
  readonly secrets: readonly HostSecret[];
}

/** What requests go through. */
export interface Ways {
  readonly upstream: Upstream;
  /** Keeps what may be kept; nothing is when absent. */
  readonly downloads?: Downloads | undefined;
  /** Hears of what could not be done. */
  readonly warn: (message: string) => void;
}

/** By either HTTP. */
export type GuestRequest = IncomingMessage | Http2ServerRequest;
/** By the same. */
export type GuestResponse = ServerResponse | Http2ServerResponse;

/** Bytes of a body that are gathered, so that its length is known beforehand. */
const MOST_GATHERED = 4 << 20;
/** RFC 9113 section 7. */
const INTERNAL_ERROR = 2;

/** Serves one; never rejects. */
export async function serveRequest(
  request: GuestRequest,
  response: GuestResponse,
  destination: Destination,
  ways: Ways,
): Promise<void> {
  const { warn } = ways;
  const host = hostOf(request);
  const { name = host, secrets } = destination;
  if (host !== name) return refuse(response, 421, `the request is for ${host}, not for ${name}`);
  const coding = secrets.length > 0 ? unreadable(request.headers) : undefined;
  if (coding !== undefined) {
    warn(`A body for ${name} was refused: its encoding is ${coding}`);
    const why =
      `a secret cannot be put into a body with the encoding ${coding}; send it without one`;
    return refuse(response, 415, why);
  }
  try {
    await passedOn(request, response, destination, ways);
  } catch (error) {
    const why = messageOf(error);
    warn(`${name} could not be reached${secrets.length > 0 ? " with its secret" : ""}: ${why}`);
    if (!response.headersSent) refuse(response, 502, `${name} cannot be reached: ${why}`);
    else if ("stream" in response) response.stream.close(INTERNAL_ERROR);
    else response.destroy();
  }
}

/** Both ways at once: who streams may want to hear something before the next word. */
async function passedOn(
  request: GuestRequest,
  response: GuestResponse,
  destination: Destination,
  { upstream, downloads }: Ways,
): Promise<void> {
  const { secrets, name = String(request.headers.host ?? "") } = destination;
  const http2 = request.httpVersionMajor === 2;
  const asked = outgoing(request, name, secrets);
  delete asked.headers["content-length"]; // it may be another one
  const body = await wholeBody(request, asked.body);
  if (body instanceof Uint8Array && hasLength(request)) {
    asked.headers["content-length"] = String(body.length);
  }
  if (downloads !== undefined && isDownload(request, asked)) {
    const url = urlOf(destination, asked);
    const got = await downloads.get({ url, headers: asked.headers }, async (headers) => {
      const exchange = await upstream.ask(destination, { ...asked, headers }, http2, false);
      response.on("close", () => exchange.cancel());
      exchange.body.end();
      return await exchange.answer;
    });
    return await passAnswer(got, response, secrets);
  }
  const isEmpty = body instanceof Uint8Array && body.length === 0;
  const exchange = await upstream.ask(destination, asked, http2, !isEmpty);
  let passed = false;
  // A guest that has left, before its answer or in the middle of it.
  response.on("close", () => passed || exchange.cancel());
  const sent = send(body, exchange.body).catch((error) => {
    if (!passed) throw error; // a server may answer without having read everything
  });
  sent.catch(() => {});
  const answer = exchange.answer.then(async (got) => {
    await passAnswer(got, response, secrets);
    passed = true;
  });
  await Promise.all([answer, Promise.race([sent, answer])]);
}

/** What says who asks, or that only a part is wanted. */
const OWN_FIELDS = ["authorization", "cookie", "proxy-authorization", "range"];

/**
 * Whether an answer may be for others, too. What needs a key is for nobody else, whatever the server says:
 * there are registries that call it public.
 */
function isDownload(request: GuestRequest, { method, headers, usesSecrets }: Outgoing): boolean {
  return method === "GET" && !hasBody(request) && !usesSecrets &&
    OWN_FIELDS.every((name) => headers[name] === undefined);
}

/** The server by the address that was checked: without TLS a name is only what the guest says. */
function urlOf({ address, port, name }: Destination, { path, headers }: Outgoing): string {
  return name === undefined
    ? `http://${address}:${port} ${headers["host"]} ${path}`
    : `https://${name}:${port}${path}`;
}

async function send(body: Uint8Array | AsyncIterable<Uint8Array>, to: Writable): Promise<void> {
  if (body instanceof Uint8Array) return void (body.length > 0 ? to.end(body) : to.end());
  for await (const piece of body) {
    if (piece.length > 0 && !to.write(piece)) await drained(to);
  }
  to.end();
}

async function passAnswer(
  got: Answer,
  response: GuestResponse,
  secrets: readonly HostSecret[],
): Promise<void> {
  const coding = secrets.length > 0 ? unreadable(got.headers) : undefined;
  if (coding !== undefined) throw new Error(`its answer has the encoding ${coding}`);
  writeHead(response, got.status, answered(got.headers, secrets));
  const replacer = new Replacer(backwards(secrets));
  for await (const piece of got.body) {
    const certain = replacer.push(piece);
    if (certain.length > 0 && !write(response, certain)) await drained(response as Writable);
  }
  const trailers = answered(got.trailers(), secrets);
  if (Object.keys(trailers).length > 0) addTrailers(response, trailers);
  const rest = replacer.end();
  if (rest.length > 0) write(response, rest);
  response.end();
}

/** The types of both HTTPs differ, their methods do not. */
function writeHead(
  response: GuestResponse,
  status: number,
  fields: Record<string, string | string[]>,
): void {
  (response as ServerResponse).writeHead(status, fields);
}

function write(response: GuestResponse, bytes: Uint8Array): boolean {
  return (response as ServerResponse).write(bytes);
}

function addTrailers(response: GuestResponse, fields: Record<string, string | string[]>): void {
  for (const [name, value] of Object.entries(fields)) {
    (response as ServerResponse).addTrailers({ [name]: String(value) });
  }
}

/** An encoding behind which a value cannot be seen; gRPC names its own in a field of its own. */
function unreadable(headers: GuestRequest["headers"]): string | undefined {
  const codings = [headers["content-encoding"], headers["grpc-encoding"]];
  return codings.map((coding) => coding?.toString().trim().toLowerCase())
    .find((coding) => coding !== undefined && coding !== "identity");
}

/** The host that a request is for: behind a shared address another one would get what is this one's. */
function hostOf({ headers }: Pick<GuestRequest, "headers">): string {
  const host = headers[":authority"] ?? headers.host ?? "";
  return String(host).toLowerCase().replace(/:443$/, "");
}

function hasLength({ headers }: GuestRequest): boolean {
  return headers["content-length"] !== undefined;
}

/** HTTP/2 needs no field to say that a body follows. */
function hasBody(request: GuestRequest): boolean {
  return hasLength(request) || request.headers["transfer-encoding"] !== undefined ||
    request.httpVersionMajor === 2 && !["GET", "HEAD"].includes(request.method ?? "");
}

/** A body with its length known, replaced as a whole; one without, or a large one, as a stream. */
async function wholeBody(
  request: GuestRequest,
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

function refuse(response: GuestResponse, status: number, why: string): void {
  writeHead(response, status, { "content-type": "text/plain" });
  response.end(`cloudlet: ${why}\n`);
}

/** WebSockets: the first request has the secret, what follows is passed on as it is. */
export function serveUpgrade(
  request: IncomingMessage,
  socket: Socket,
  head: Uint8Array,
  destination: Destination,
  upstream: Upstream,
): void {
  const { name = hostOf(request) } = destination;
  if (hostOf(request) !== name) return void socket.destroy();
  const asked = outgoing(request, hostOf(request), destination.secrets);
  asked.headers["connection"] = "Upgrade";
  asked.headers["upgrade"] = String(request.headers.upgrade ?? "websocket");
  const sent = upstream.request(destination, asked);
  socket.on("error", () => sent.destroy());
  sent.on("error", () => socket.destroy());
  sent.on("response", (got) => void refusedUpgrade(socket, got, destination.secrets));
  sent.on("upgrade", (got, server, first) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n` +
        `upgrade: ${asked.headers["upgrade"]}\r\n${fieldLines(got, destination.secrets)}\r\n`,
    );
    // Under Deno an empty write holds up those behind it.
    if (first.length > 0) socket.write(first);
    if (head.length > 0) server.write(head);
    server.on("error", () => socket.destroy());
    socket.pipe(server).pipe(socket);
  });
  sent.end();
}

function fieldLines({ headers }: IncomingMessage, secrets: readonly HostSecret[]): string {
  return Object.entries(answered(headers, secrets))
    .flatMap(([name, value]) => [value].flat().map((text) => `${name}: ${text}\r\n`)).join("");
}

/** A server that does not upgrade says why, as it would to anybody; never rejects. */
async function refusedUpgrade(
  socket: Socket,
  got: IncomingMessage,
  secrets: readonly HostSecret[],
): Promise<void> {
  try {
    const head = `HTTP/1.1 ${got.statusCode} ${got.statusMessage ?? ""}\r\nconnection: close\r\n`;
    socket.write(`${head}${fieldLines(got, secrets)}\r\n`);
    const replacer = new Replacer(backwards(secrets));
    for await (const piece of got) {
      const certain = replacer.push(piece as Uint8Array);
      if (certain.length > 0 && !socket.write(certain)) await drained(socket);
    }
    const rest = replacer.end();
    if (rest.length > 0) socket.write(rest);
    socket.end();
  } catch {
    socket.destroy(); // one of them has left
  }
}
