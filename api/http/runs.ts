/**
 * Runs: started, listed, forked and ended.
 *
 * @module
 */
import type { Hono } from "hono";
import type { ExecuteResponse } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { fromConnectError } from "../../service/connect_errors.ts";
import { forkRequest, runRequest, runsQuery } from "../schemas.ts";
import { eventStream } from "../sse.ts";
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
export function mountRuns(app: Hono, { vmm, store, limited }: Parts): void {
  app.post("/run", limited, async (c) => {
    const request = toRunVmmRequest(await readJson(c.req.raw, runRequest));
    return await runEvents((signal) => vmm.run(request, { signal }), c.req.raw.signal);
  });
  app.post("/runs/:id/fork", limited, async (c) => {
    const { id: executionId } = findRun(store, c.req.param("id"));
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
  app.get("/runs", (c) => {
    const { state, limit, before } = readQuery(c.req.query(), runsQuery);
    const runs = store.list({
      state,
      limit,
      before: before === undefined ? undefined : Date.parse(before),
    });
    return c.json({ runs: runs.map(toRunInfo) });
  });
  app.get("/runs/:id", (c) => c.json(toRunInfo(findRun(store, c.req.param("id")))));
  app.delete("/runs/:id", async (c) => {
    const { id } = findRun(store, c.req.param("id"));
    await vmm.shutdown({ executionId: id });
    return c.json(toRunInfo(findRun(store, id)));
  });
  app.get("/metrics/:id", (c) => c.json(toMetrics(findRun(store, c.req.param("id")))));
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
