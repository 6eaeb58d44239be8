/**
 * The HTTP API: one Hono application in front of VmmService.
 *
 * @module
 */
import { createClient, createRouterTransport } from "@connectrpc/connect";
import type { ConnectRouter } from "@connectrpc/connect";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { routePath } from "hono/route";
import { CloudletError } from "../base/errors.ts";
import type { ExecuteResponse } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { VmmService } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { fromConnectError } from "../vmm/service/connect_errors.ts";
import type { RequestHead } from "../vmm/service/server.ts";
import type { LogEntry, RunRecord, RunStore } from "../vmm/service/run_store.ts";
import { mountConnect } from "./connect_mount.ts";
import { makeGuard } from "./guard.ts";
import type { Keys } from "./keys.ts";
import type { Metrics } from "./metrics.ts";
import { docsPage, openApiDocument } from "./openapi.ts";
import { HttpError, problemOf, problemResponse } from "./problem.ts";
import { readJson, readQuery } from "./read.ts";
import {
  forkRequest,
  type LogEndBody,
  type LogEntryBody,
  logsQuery,
  runRequest,
  runsQuery,
} from "./schemas.ts";
import { eventStream } from "./sse.ts";
import {
  toEvent,
  toFailedEvent,
  toLogEntry,
  toLogLevel,
  toMetrics,
  toRunInfo,
  toRunVmmRequest,
} from "./wire.ts";

/** What the API is made of. */
export interface ApiOptions {
  /** Registers VmmService. */
  readonly routes: (router: ConnectRouter) => void;
  /** Where runs are noted. */
  readonly store: RunStore;
  /** What is counted. */
  readonly metrics: Metrics;
  /** Whether new runs are taken. */
  readonly ready: () => boolean;
  /** The keys that are taken; without them no request needs one. */
  readonly keys?: Keys;
  /** Names that a request's Host header may have; any when absent. */
  readonly hosts?: ReadonlySet<string>;
  /** Largest body in bytes. */
  readonly maxBody: number;
  /** Version of cloudlet. */
  readonly version: string;
}

/** Routes that need no key: whether the service lives, and what it is. */
const OPEN = new Set(["/healthz", "/readyz", "/openapi.json", "/docs", "/docs.js"]);

/**
 * The API as a function from requests to responses: `app.fetch` is what `Deno.serve` takes, and
 * `app.request` what tests call.
 */
export function createApp(options: ApiOptions): Hono {
  const { store, metrics } = options;
  const vmm = createClient(VmmService, createRouterTransport(options.routes));
  const app = new Hono();

  app.onError((error) => {
    const known = error instanceof CloudletError ? error : fromConnectError(error);
    if (known.code === "internal") console.error("cloudlet: unexpected error:", error);
    return problemResponse(problemOf(known, error instanceof HttpError ? error.status : undefined));
  });
  app.notFound((c) => {
    const routes = app.routes.filter(({ path, method }) => path === c.req.path && method !== "ALL");
    const methods = [...new Set(routes.map(({ method }) => method))];
    const error = methods.length > 0
      ? new HttpError(405, `Cannot ${c.req.method} ${c.req.path}: it takes ${methods.join(", ")}`)
      : new HttpError(404, `Cannot find ${c.req.path}: there is no such route`, "see /docs");
    const response = problemResponse(problemOf(error, error.status));
    if (methods.length > 0) response.headers.set("allow", methods.join(", "));
    return response;
  });

  app.use(async (c, next) => {
    await next();
    metrics.answered(c.req.method, routePath(c, -1), c.res.status);
  });
  const guard = makeGuard({ keys: options.keys, hosts: options.hosts, open: OPEN });
  app.use(async (c, next) => {
    guard(headOf(c));
    await next();
  });
  const limited = bodyLimit({
    maxSize: options.maxBody,
    onError: () => {
      throw new HttpError(
        413,
        `Cannot take the request: its body has more than ${options.maxBody} bytes`,
        "send less, or raise the limit of the server",
      );
    },
  });

  app.post("/run", limited, async (c) => {
    const request = toRunVmmRequest(await readJson(c.req.raw, runRequest));
    return await runEvents((signal) => vmm.run(request, { signal }), c.req.raw.signal);
  });
  app.post("/runs/:id/fork", limited, async (c) => {
    const { id: executionId } = find(store, c.req.param("id"));
    const { id: forkId = "", log_level } = await readJson(c.req.raw, forkRequest);
    const request = { executionId, forkId, logLevel: toLogLevel(log_level) };
    return await runEvents((signal) => vmm.fork(request, { signal }), c.req.raw.signal);
  });
  app.post("/configuration", limited, async (c) => {
    const { code, files, stdin, stdin_base64, ...rest } = await readJson(c.req.raw, runRequest);
    return c.json({
      ...rest,
      files: files?.map(({ path }) => path) ?? null,
      code_bytes: code === undefined ? null : new TextEncoder().encode(code).length,
      stdin_bytes: stdin_base64?.length ?? new TextEncoder().encode(stdin ?? "").length,
    });
  });
  app.post("/shutdown", async (c) => {
    const { success } = await vmm.shutdown({});
    return c.json({ success });
  });
  app.get("/runs", (c) => {
    const { state, limit, before } = readQuery(c.req.query(), runsQuery);
    const runs = store.list({
      state,
      limit,
      before: before === undefined ? undefined : Date.parse(before),
    });
    return c.json({ runs: runs.map(toRunInfo) });
  });
  app.get("/runs/:id", (c) => c.json(toRunInfo(find(store, c.req.param("id")))));
  app.delete("/runs/:id", async (c) => {
    const { id } = find(store, c.req.param("id"));
    await vmm.shutdown({ executionId: id });
    return c.json(toRunInfo(find(store, id)));
  });
  app.get("/logs/:id", (c) => logs(c, store));
  app.get("/metrics/:id", (c) => c.json(toMetrics(find(store, c.req.param("id")))));
  app.get("/metrics", async () => {
    const { type, body } = await metrics.text();
    return new Response(body, { headers: { "content-type": type } });
  });
  app.get("/healthz", (c) => c.json({ status: "ok" }));
  app.get("/readyz", (c) => {
    if (options.ready()) return c.json({ status: "ready" });
    const error = new CloudletError("Cannot take runs: the service is about to end", {
      code: "unavailable",
    });
    return problemResponse(problemOf(error));
  });
  app.get("/openapi.json", (c) => c.json(openApiDocument(options.version)));
  docsPage(app);
  mountConnect(app, options.routes, options.maxBody);
  return app;
}

function find(store: RunStore, id: string): RunRecord {
  const run = store.get(id);
  if (run !== undefined) return run;
  throw new CloudletError(`Cannot find the run ${JSON.stringify(id.slice(0, 128))}`, {
    code: "not-found",
    remedy: "GET /runs lists the runs",
  });
}

/** A request's head; over HTTP/2 its URL has the :authority. */
function headOf({ req }: Context): RequestHead {
  return {
    method: req.method,
    path: req.path,
    authorities: [req.header("host") ?? [], new URL(req.url).host].flat(),
    field: (name) => req.header(name),
  };
}

async function runEvents(
  call: (signal: AbortSignal) => AsyncIterable<ExecuteResponse>,
  client: AbortSignal,
): Promise<Response> {
  const gone = new AbortController();
  const responses = call(AbortSignal.any([client, gone.signal]))[Symbol.asyncIterator]();
  // The first response is there at once; before it, a refusal still has a status of its own.
  const first = await responses.next();
  async function* events() {
    try {
      for (let step = first; !step.done; step = await responses.next()) {
        yield toEvent(step.value);
      }
    } catch (error) {
      yield toFailedEvent(problemOf(fromConnectError(error)));
    }
  }
  return eventStream(events(), () => gone.abort());
}

async function logs(c: Context, store: RunStore): Promise<Response> {
  const { id } = find(store, c.req.param("id") ?? "");
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
    const run = find(store, id);
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
  const truncated = isTruncated(find(store, id));
  return c.json({ id, truncated, entries: await Array.fromAsync(entries(), toLogEntry) });
}

function isTruncated(run: RunRecord): boolean {
  return run.stdoutBytes + run.stderrBytes > run.loggedBytes;
}
