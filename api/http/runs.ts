/**
 * Runs: started, listed, forked and ended.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import type { ExecuteResponse } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { fromConnectError } from "../../service/connect_errors.ts";
import {
  forkRequest,
  type RunEventBody,
  type RunRequest,
  runRequest,
  runsQuery,
} from "../schemas.ts";
import { eventStream, nothingLeft } from "../sse.ts";
import { findRun, type Parts } from "./parts.ts";
import { problemOf } from "./problem.ts";
import { readJson, readQuery } from "./read.ts";
import {
  toEvent,
  toFailedEvent,
  toLogLevel,
  toMetrics,
  toRunInfo,
  toRunVmmRequest,
} from "./wire.ts";

/** Adds the routes of runs. */
export function mountRuns(app: Hono, { vmm, store, check, limited }: Parts): void {
  app.post("/run", limited, async (c) => {
    if (comesBack(c)) return nothingLeft();
    const request = toRunVmmRequest(await readJson(c.req.raw, runRequest));
    return await runEvents((signal) => vmm.run(request, { signal }), c.req.raw.signal);
  });
  app.post("/runs/:id/fork", limited, async (c) => {
    const { id: executionId } = findRun(store, c.req.param("id"));
    if (comesBack(c)) return nothingLeft();
    const { id: forkId = "", log_level } = await readJson(c.req.raw, forkRequest);
    const request = { executionId, forkId, logLevel: toLogLevel(log_level) };
    return await runEvents((signal) => vmm.fork(request, { signal }), c.req.raw.signal);
  });
  app.post("/configuration", limited, async (c) => {
    const body = await readJson(c.req.raw, runRequest);
    check(toRunVmmRequest(body));
    const { code, files, stdin, stdin_base64, network, build, ...rest } = body;
    return c.json({
      ...rest,
      ...(network && { network: withoutValues(network) }),
      ...(build && { build: withoutBuildValues(build) }),
      files: files?.map(({ path }) => path) ?? null,
      code_bytes: code === undefined ? null : new TextEncoder().encode(code).length,
      stdin_bytes: stdin_base64?.length ?? new TextEncoder().encode(stdin ?? "").length,
    });
  });
  app.get("/runs", (c) => {
    const { before, ...rest } = readQuery(c.req.query(), runsQuery);
    const { runs, next = null } = store.page({
      ...rest,
      before: before === undefined ? undefined : Date.parse(before),
    });
    return c.json({ runs: runs.map(toRunInfo), next });
  });
  app.get("/runs/:id", (c) => c.json(toRunInfo(findRun(store, c.req.param("id")))));
  app.delete("/runs/:id", async (c) => {
    const { id } = findRun(store, c.req.param("id"));
    await vmm.shutdown({ executionId: id });
    return c.json(toRunInfo(findRun(store, id)));
  });
  app.get("/metrics/:id", (c) => c.json(toMetrics(findRun(store, c.req.param("id")))));
}

/** A network whose secrets are not told: what is sent back is easily kept somewhere. */
function withoutValues(network: Pick<NonNullable<RunRequest["network"]>, "secrets">) {
  const { secrets, ...rest } = network;
  if (secrets === undefined) return rest;
  const hosts = Object.entries(secrets).map(([name, { hosts }]) => [name, { hosts }] as const);
  return { ...rest, secrets: Object.fromEntries(hosts) };
}

function withoutBuildValues(build: NonNullable<RunRequest["build"]>) {
  const { network } = build;
  if (typeof network !== "object" || Array.isArray(network)) return build;
  return { ...build, network: withoutValues(network) };
}

/**
 * Whether the client has had events of an earlier stream: an EventSource asks again when a stream has
 * ended or broken off. A client that leaves ends its run, so there is nothing to go on with, and
 * nothing may be started twice.
 */
function comesBack(c: Context): boolean {
  return (c.req.header("last-event-id") ?? "") !== "";
}

async function runEvents(
  call: (signal: AbortSignal) => AsyncIterable<ExecuteResponse>,
  client: AbortSignal,
): Promise<Response> {
  const gone = new AbortController();
  const responses = call(AbortSignal.any([client, gone.signal]))[Symbol.asyncIterator]();
  // The first response is there at once; before it, a refusal still has a status of its own.
  const first = await responses.next();
  const run = first.done ? "" : first.value.executionId;
  let number = 0;
  const event = (data: RunEventBody) => ({ id: `${run}/${number++}`, data });
  async function* events() {
    try {
      for (let step = first; !step.done; step = await responses.next()) {
        yield event(toEvent(step.value));
      }
    } catch (error) {
      yield event(toFailedEvent(problemOf(fromConnectError(error))));
    }
  }
  return eventStream(events(), () => gone.abort());
}
