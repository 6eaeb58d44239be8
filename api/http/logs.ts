/**
 * The output of a run: all of it, or as it comes.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import type { LogEntry, RunRecord, RunStore } from "../../service/run_store.ts";
import { CloudletError } from "../../base/errors.ts";
import { type LogEndBody, logsQuery } from "../schemas.ts";
import { eventStream, nothingLeft } from "../sse.ts";
import { findRun, type Parts } from "./parts.ts";
import { readQuery } from "./read.ts";
import { toLogEntry, toRunInfo } from "./wire.ts";

/** Adds the route of logs. */
export function mountLogs(app: Hono, { store }: Parts): void {
  app.get("/logs/:id", (c) => logs(c, store));
}

/** Id of the last event of a stream; those before it have the number of their entry. */
const END = "end";

async function logs(c: Context, store: RunStore): Promise<Response> {
  const { id } = findRun(store, c.req.param("id") ?? "");
  const { stream, follow } = readQuery(c.req.query(), logsQuery);
  const accept = c.req.header("accept") ?? "";
  const gone = new AbortController();
  const signal = AbortSignal.any([c.req.raw.signal, gone.signal]);
  async function* entries(from = 0): AsyncGenerator<NumberedEntry> {
    let number = from;
    for await (const entry of follow ? store.follow(id, signal, from) : store.logs(id, from)) {
      if (stream === undefined || entry.stream === stream) yield { ...entry, number };
      number++;
    }
  }
  async function* bytes() {
    for await (const { data } of entries()) yield data;
  }
  if (accept.includes("application/octet-stream")) {
    return new Response(ReadableStream.from(bytes()), {
      headers: { "content-type": "application/octet-stream" },
    });
  }
  async function* events(from: number) {
    for await (const entry of entries(from)) {
      yield { id: String(entry.number), data: toLogEntry(entry) };
    }
    const run = findRun(store, id);
    const end: LogEndBody = { truncated: isTruncated(run), run: toRunInfo(run) };
    yield { id: END, data: end };
  }
  if (follow || accept.includes("text/event-stream")) {
    const last = c.req.header("last-event-id") ?? "";
    if (last === END) return nothingLeft();
    return eventStream(events(nextNumber(last)), () => gone.abort());
  }
  const truncated = isTruncated(findRun(store, id));
  return c.json({ id, truncated, entries: await Array.fromAsync(entries(), toLogEntry) });
}

/** A piece of output with its place among those of the run. */
type NumberedEntry = LogEntry & { readonly number: number };

/** The number of the entry that follows what a client has had. */
function nextNumber(last: string): number {
  if (last === "") return 0;
  if (/^\d{1,15}$/.test(last)) return Number(last) + 1;
  throw new CloudletError(
    `Cannot go on after the event ${JSON.stringify(last.slice(0, 100))}: the log has none such`,
    { code: "invalid-input", remedy: "send the Last-Event-ID of this stream, or none" },
  );
}

function isTruncated(run: RunRecord): boolean {
  return run.stdoutBytes + run.stderrBytes > run.loggedBytes;
}
