/**
 * Server-sent events (HTML Living Standard, section 9.2) out of anything that yields them, and back.
 *
 * @module
 */
import { EventSourceParserStream } from "eventsource-parser/stream";

const utf8 = new TextEncoder();
/** A comment, which clients skip: it keeps proxies from taking a silent run for a dead one. */
const ALIVE = utf8.encode(":\n\n");

/** One event. */
export interface ServerEvent {
  /** Sent as JSON. */
  readonly data: unknown;
  /** What a client that comes back says it has had last; without line breaks. */
  readonly id: string;
}

/** No content: what ends the reconnecting of an `EventSource` (HTML Living Standard, 9.2.3). */
export function nothingLeft(): Response {
  return new Response(null, { status: 204 });
}

/**
 * A response whose events are what `events` yields. It takes the next one only when the client has
 * taken the last, so a slow client slows the source down and fills no memory.
 *
 * @param events the source; its `return` is called when the client leaves
 * @param leave called when the client leaves
 * @param silence milliseconds without an event after which a comment is sent
 */
export function eventStream(
  events: AsyncIterator<ServerEvent>,
  leave: () => void,
  silence = 15_000,
): Response {
  let pending: Promise<IteratorResult<ServerEvent>> | undefined;
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      pending ??= events.next();
      const { promise: silent, resolve } = Promise.withResolvers<undefined>();
      const timer = setTimeout(() => resolve(undefined), silence);
      const step = await Promise.race([pending, silent]).finally(() => clearTimeout(timer));
      if (step === undefined) return controller.enqueue(ALIVE);
      pending = undefined;
      if (step.done) return controller.close();
      // JSON has no line break outside of strings, and none unescaped inside: one line is enough.
      const { id, data } = step.value;
      controller.enqueue(utf8.encode(`id: ${id}\ndata: ${JSON.stringify(data)}\n\n`));
    },
    cancel() {
      leave();
      void events.return?.().catch(() => {});
    },
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no", // nginx would collect the events
    },
  });
}

/** Most characters of one event that a client keeps: a message of the server has far less. */
const MAX_EVENT = 64 << 20;

/**
 * The data of the events of a stream, whichever server sends them.
 *
 * @throws {Error} for an event of more than 64 million characters
 */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const text = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>);
  const events = text.pipeThrough(new EventSourceParserStream({ maxBufferSize: MAX_EVENT }));
  for await (const { data } of events) yield data;
}
