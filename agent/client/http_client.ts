/**
 * A small HTTP/1.1 client (RFC 9112) over any byte stream, for the Connect transport: one request
 * for each connection, unless it says that the next one follows; both bodies streamed, with the
 * stream's own backpressure.
 *
 * `fetch` can do neither the handshake of a vsock host socket nor close a connection by hand. The
 * server is inside a microVM and hostile: what it sends is bounded before it is kept.
 *
 * @module
 */
import type {
  UniversalClientFn,
  UniversalClientRequest,
  UniversalClientResponse,
} from "@connectrpc/connect/protocol";
import { CloudletError } from "../../base/errors.ts";

const READ_SIZE = 65536;
const MAX_HEAD = 65536; // bytes of status line and header fields
const MAX_INFORMATIONAL = 8; // answers before the answer (RFC 9110, section 15.2)
const MAX_CHUNK_LINE = 256; // bytes of a chunk's size with its extensions

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function malformed(why: string): CloudletError {
  return new CloudletError(`Cannot read the agent's answer: ${why}`, { code: "guest" });
}

async function writeAll(connection: Deno.Conn, ...parts: readonly Uint8Array[]): Promise<void> {
  let bytes = parts[0]!;
  if (parts.length > 1) { // one packet is worth a copy
    bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let offset = 0;
    for (const part of parts) {
      bytes.set(part, offset);
      offset += part.length;
    }
  }
  for (let offset = 0; offset < bytes.length;) {
    offset += await connection.write(bytes.subarray(offset));
  }
}

/** Reads lines and counted bytes from a connection. */
class Reader {
  readonly #connection: Deno.Conn;
  readonly #buffer = new Uint8Array(READ_SIZE);
  #bytes = this.#buffer.subarray(0, 0);

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  async #fill(): Promise<boolean> {
    const length = await this.#connection.read(this.#buffer);
    if (length === null) return false;
    this.#bytes = this.#buffer.subarray(0, length);
    return true;
  }

  /** Whether nothing was read that nobody has taken. */
  get empty(): boolean {
    return this.#bytes.length === 0;
  }

  /** A line without its end; at most `limit` bytes. */
  async line(limit: number): Promise<string> {
    let text = "";
    for (;;) {
      const end = this.#bytes.indexOf(10);
      const piece = end === -1 ? this.#bytes : this.#bytes.subarray(0, end);
      if (text.length + piece.length > limit) throw malformed("a line is too long");
      text += decoder.decode(piece);
      if (end !== -1) {
        this.#bytes = this.#bytes.subarray(end + 1);
        return text.endsWith("\r") ? text.slice(0, -1) : text;
      }
      if (!await this.#fill()) throw malformed("it ends too early");
    }
  }

  /** The next bytes, at most `limit`; undefined at the end of the stream. */
  async some(limit: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.#bytes.length === 0 && !await this.#fill()) return undefined;
    const piece = this.#bytes.slice(0, limit);
    this.#bytes = this.#bytes.subarray(piece.length);
    return piece;
  }
}

/** Status and header fields (RFC 9112, sections 4 and 5). */
async function readHead(reader: Reader): Promise<{ status: number; header: Headers }> {
  const statusLine = await reader.line(MAX_HEAD);
  const status = /^HTTP\/1\.[01] ([1-5]\d\d)( |$)/.exec(statusLine)?.[1];
  if (status === undefined) throw malformed("it is not HTTP/1.1");
  const header = new Headers();
  let left = MAX_HEAD - statusLine.length;
  for (;;) {
    const line = await reader.line(left);
    left -= line.length + 2;
    if (line === "") return { status: Number(status), header };
    const colon = line.indexOf(":");
    try {
      header.append(line.slice(0, colon), line.slice(colon + 1).trim());
    } catch {
      throw malformed("a header field is malformed");
    }
  }
}

/** The body of a response, without its framing (RFC 9112, sections 6 and 7). */
async function* readBody(reader: Reader, header: Headers): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  async function* counted(length: number): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    for (let left = length; left > 0;) {
      const piece = await reader.some(left);
      if (piece === undefined) throw malformed("it ends too early");
      left -= piece.length;
      yield piece;
    }
  }
  if (header.get("transfer-encoding")?.toLowerCase() === "chunked") {
    for (;;) {
      const line = await reader.line(MAX_CHUNK_LINE);
      const size = /^([0-9a-f]{1,8})\s*(;|$)/i.exec(line)?.[1];
      if (size === undefined) throw malformed("a chunk has no size");
      const length = Number.parseInt(size, 16);
      if (length === 0) break;
      yield* counted(length);
      if (await reader.line(1) !== "") throw malformed("a chunk has no end");
    }
    // trailers, which Connect does not use
    for (let left = MAX_HEAD, line = await reader.line(left); line !== "";) {
      left -= line.length + 2;
      line = await reader.line(left);
    }
    return;
  }
  const length = header.get("content-length");
  if (length !== null) {
    if (!/^\d{1,15}$/.test(length)) throw malformed("its length is not a number");
    yield* counted(Number(length));
    return;
  }
  for (let piece = await reader.some(READ_SIZE); piece; piece = await reader.some(READ_SIZE)) {
    yield piece;
  }
}

/** Whether the connection shall be kept for the next request (RFC 9112, section 9.3). */
function keepsAlive({ header }: UniversalClientRequest): boolean {
  return header.get("connection") === "keep-alive";
}

/** Whether the server waits for another request, and where the answer ended is certain. */
function staysOpen(header: Headers): boolean {
  return header.get("connection")?.toLowerCase() !== "close" &&
    (header.has("content-length") || header.get("transfer-encoding")?.toLowerCase() === "chunked");
}

function requestHead(request: UniversalClientRequest, framing: string): Uint8Array {
  const { pathname, search } = new URL(request.url);
  let text = `${request.method} ${pathname}${search} HTTP/1.1\r\nhost: agent\r\n${framing}\r\n`;
  if (!keepsAlive(request)) text += "connection: close\r\n";
  for (const [name, value] of request.header) text += `${name}: ${value}\r\n`;
  return encoder.encode(text + "\r\n");
}

async function sendRequest(connection: Deno.Conn, request: UniversalClientRequest): Promise<void> {
  const body = request.body?.[Symbol.asyncIterator]();
  const first = await body?.next();
  if (body === undefined || first === undefined || first.done) {
    return await writeAll(connection, requestHead(request, "content-length: 0"));
  }
  let next = body.next();
  next.catch(() => {}); // it is awaited below, unless writing fails first
  // Most requests are one message: sent whole, the guest is woken once.
  const tick = new Promise<"tick">((resolve) => setTimeout(resolve, 0, "tick"));
  const early = await Promise.race([next, tick]);
  if (early !== "tick" && early.done) {
    const head = requestHead(request, `content-length: ${first.value.length}`);
    return await writeAll(connection, head, first.value);
  }
  const lineEnd = encoder.encode("\r\n");
  const sizeOf = (bytes: Uint8Array) => encoder.encode(`${bytes.length.toString(16)}\r\n`);
  const head = requestHead(request, "transfer-encoding: chunked");
  await writeAll(connection, head, sizeOf(first.value), first.value, lineEnd);
  for (;;) {
    const result = await next;
    if (result.done) break;
    if (result.value.length > 0) { // a chunk of no bytes would be the end
      await writeAll(connection, sizeOf(result.value), result.value, lineEnd);
    }
    next = body.next();
  }
  await writeAll(connection, encoder.encode("0\r\n\r\n"));
}

/** How long a connection waits for the next request, in milliseconds. */
const IDLE = 1000;

/** A connection that waits for the next request, if there is one. */
class Idle {
  #connection: Deno.Conn | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Takes a connection over, and closes it when nobody wants it. */
  keep(connection: Deno.Conn): void {
    this.take()?.close();
    this.#connection = connection;
    this.#timer = setTimeout(() => this.take()?.close(), IDLE);
    Deno.unrefTimer(this.#timer);
  }

  take(): Deno.Conn | undefined {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    this.#connection = undefined;
    return connection;
  }
}

/**
 * Makes the client. A request with the header field `connection: keep-alive` leaves its connection to
 * the next one, if that comes within a second.
 *
 * @param connect opens a connection to the server, unless the signal is aborted meanwhile
 */
export function httpClient(
  connect: (signal: AbortSignal | undefined) => Promise<Deno.Conn>,
): UniversalClientFn {
  const idle = new Idle();
  return async (request: UniversalClientRequest): Promise<UniversalClientResponse> => {
    const { signal } = request;
    signal?.throwIfAborted();
    const connection = idle.take() ?? await connect(signal);
    let open = true;
    /** Lets go of the connection. */
    const close = (reusable = false) => {
      if (!open) return;
      open = false;
      signal?.removeEventListener("abort", abort);
      if (reusable) idle.keep(connection);
      else connection.close();
    };
    const abort = () => close();
    signal?.addEventListener("abort", abort);
    const failed = (error: unknown): unknown => {
      close();
      return signal?.aborted ? signal.reason : error;
    };
    if (signal?.aborted) {
      close();
      signal.throwIfAborted();
    }
    // The answer may come, and end, before the whole request is taken.
    let sendFailure: { error: unknown } | undefined;
    const sending = sendRequest(connection, request).catch((error) => {
      sendFailure = { error };
    });
    try {
      const reader = new Reader(connection);
      let head = await readHead(reader).catch(async (error) => {
        await sending; // why it could not be sent tells more
        throw sendFailure?.error ?? error;
      });
      for (let count = 0; head.status < 200; head = await readHead(reader)) {
        if (++count > MAX_INFORMATIONAL) throw malformed("informational answers do not end");
      }
      const body = async function* () {
        try {
          yield* readBody(reader, head.header);
          if (keepsAlive(request)) {
            await sending;
            close(reader.empty && sendFailure === undefined && staysOpen(head.header));
          }
        } catch (error) {
          throw failed(error);
        } finally {
          close();
        }
      };
      return { ...head, body: body(), trailer: new Headers() };
    } catch (error) {
      throw failed(error);
    }
  };
}
