/**
 * The output of a run: all of it, or as it comes.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import type { LogEntry, RunRecord, RunStore } from "../../service/run_store.ts";
import { type LogEndBody, type LogEntryBody, logsQuery } from "../schemas.ts";
import { eventStream } from "../sse.ts";
import { findRun, type Parts } from "./parts.ts";
import { readQuery } from "./read.ts";
import { toLogEntry, toRunInfo } from "./wire.ts";

/** Adds the route of logs. */
export function mountLogs(app: Hono, { store }: Parts): void {
  app.get("/logs/:id", (c) => logs(c, store));
}

async function logs(c: Context, store: RunStore): Promise<Response> {
  const { id } = findRun(store, c.req.param("id") ?? "");
  const { stream, follow } = readQuery(c.req.query(), logsQuery);
  const accept = c.req.header("accept") ?? "";
  const gone = new AbortController();
  const signal = AbortSignal.any([c.req.raw.signal, gone.signal]);
  async function* entries(): AsyncGenerator<LogEntry> {
    for await (const entry of follow ? store.follow(id, signal) : store.logs(id)) {
      if (stream === undefined || entry.stream === stream) yield entry;
    }
  }
  async function* bytes() {
    for await (const { data } of entries()) yield data;
  }
  async function* events(): AsyncGenerator<LogEntryBody | LogEndBody> {
    for await (const entry of entries()) yield toLogEntry(entry);
    const run = findRun(store, id);
    yield { truncated: isTruncated(run), run: toRunInfo(run) };
  }
  if (accept.includes("application/octet-stream")) {
    return new Response(ReadableStream.from(bytes()), {
      headers: { "content-type": "application/octet-stream" },
    });
  }
  if (follow || accept.includes("text/event-stream")) {
    return eventStream(events(), () => gone.abort());
  }
  const truncated = isTruncated(findRun(store, id));
  return c.json({ id, truncated, entries: await Array.fromAsync(entries(), toLogEntry) });
}

function isTruncated(run: RunRecord): boolean {
  return run.stdoutBytes + run.stderrBytes > run.loggedBytes;
}
