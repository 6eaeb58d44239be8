/**
 * Bounds on what an agent may answer: the root of a guest can put anything in its place.
 *
 * @module
 */
import type { Interceptor } from "@connectrpc/connect";
import type { UniversalClientFn } from "@connectrpc/connect/protocol";
import { CloudletError } from "../../base/errors.ts";

/** Bounds on the answers of an agent. */
export interface AgentLimits {
  /** Bytes of one message. The agent's largest are pieces of files, of 256 KiB. */
  readonly message: number;
  /** Milliseconds for a call of one answer. */
  readonly answer: number;
  /** The same for Warm, which starts an interpreter. */
  readonly warm: number;
}

/** Where guests are emulated a system call takes a millisecond, and several share a processor. */
export const AGENT_LIMITS: AgentLimits = { message: 1 << 20, answer: 60_000, warm: 300_000 };

function misbehaves(why: string): CloudletError {
  return new CloudletError(`Cannot go on with the agent of the microVM: ${why}`, { code: "guest" });
}

/** Ends calls of one answer that take too long; streams are bounded by who reads them. */
export function withDeadlines(limits: AgentLimits): Interceptor {
  return (next) => async (request) => {
    if (request.stream) return await next(request);
    const { localName } = request.method;
    const patience = localName === "warm" ? limits.warm : limits.answer;
    const late = new AbortController();
    const timer = setTimeout(
      () => late.abort(misbehaves(`it did not answer ${localName} within ${patience / 1000} s`)),
      patience,
    );
    try {
      const signal = AbortSignal.any([request.signal, late.signal]);
      return await next({ ...request, signal });
    } catch (error) {
      throw late.signal.aborted && !request.signal.aborted ? late.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  };
}

/**
 * Hands whole messages to Connect, in whatever pieces they come: it looks at all pieces that it has
 * again with each new one, so that one message of a million pieces would keep it busy for hours.
 *
 * @param limit bytes of one message
 */
export function wholeMessages(client: UniversalClientFn, limit: number): UniversalClientFn {
  return async (request) => {
    const response = await client(request);
    const streams =
      response.header.get("content-type")?.startsWith("application/connect+") === true;
    const pieces = response.body as AsyncIterable<Uint8Array<ArrayBuffer>>;
    return { ...response, body: streams ? envelopes(pieces, limit) : whole(pieces, limit) };
  };
}

/** The pieces of one message as one. */
async function* whole(
  pieces: AsyncIterable<Uint8Array>,
  limit: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let bytes = new Uint8Array(1024);
  let length = 0;
  for await (const piece of pieces) {
    if (length + piece.length > limit) throw misbehaves("its answer is too large");
    if (length + piece.length > bytes.length) {
      const larger = new Uint8Array(Math.max(2 * bytes.length, length + piece.length));
      larger.set(bytes.subarray(0, length));
      bytes = larger;
    }
    bytes.set(piece, length);
    length += piece.length;
  }
  yield bytes.subarray(0, length);
}

const PREFIX = 5; // bytes before a message: flags, and its length (Connect protocol, Streaming RPCs)

/** Each message of a stream as one piece, with its prefix. */
export async function* envelopes(
  pieces: AsyncIterable<Uint8Array>,
  limit: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let message = new Uint8Array(PREFIX);
  let length = 0;
  for await (let rest of pieces) {
    while (rest.length > 0) {
      const part = rest.subarray(0, message.length - length);
      message.set(part, length);
      length += part.length;
      rest = rest.subarray(part.length);
      if (length === PREFIX && message.length === PREFIX) {
        const size = new DataView(message.buffer).getUint32(1);
        if (size > limit) throw misbehaves(`a message of it has ${size} bytes`);
        const prefix = message;
        message = new Uint8Array(PREFIX + size);
        message.set(prefix);
      }
      if (length === message.length) {
        yield message;
        message = new Uint8Array(PREFIX);
        length = 0;
      }
    }
  }
  if (length > 0) yield message.subarray(0, length); // Connect says that it is incomplete
}

/** How much a stream of the agent may give. */
export interface StreamLimits {
  /** Messages. */
  readonly messages: number;
  /** Bytes, as `size` counts them. */
  readonly bytes: number;
}

/**
 * Passes a stream of the agent on up to its limits.
 *
 * @param size bytes of a message that count
 * @throws {CloudletError} `guest` for more
 */
export async function* bounded<T>(
  stream: AsyncIterable<T>,
  limits: StreamLimits,
  size: (message: T) => number,
): AsyncGenerator<T> {
  let messages = 0;
  let bytes = 0;
  for await (const message of stream) {
    if (++messages > limits.messages) throw misbehaves(`it sends over ${limits.messages} messages`);
    bytes += size(message);
    if (bytes > limits.bytes) throw misbehaves(`it sends over ${limits.bytes} bytes`);
    yield message;
  }
}

/** A signal that says so when time is up; disposing it gives the timer back. */
export interface Deadline extends Disposable {
  /** Aborted with the given signal, or when time is up. */
  readonly signal: AbortSignal;
}

/**
 * Gives a call of the agent so much time.
 *
 * @param signal aborts it as well
 * @param milliseconds from now
 */
export function within(signal: AbortSignal, milliseconds: number): Deadline {
  const late = new AbortController();
  const timer = setTimeout(
    () => late.abort(misbehaves(`it has not ended after ${milliseconds / 1000} s`)),
    milliseconds,
  );
  return {
    signal: AbortSignal.any([signal, late.signal]),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
