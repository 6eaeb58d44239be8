/**
 * What operators ask: figures, health, the end.
 *
 * @module
 */
import type { Hono } from "hono";
import { CloudletError } from "../../base/errors.ts";
import type { Parts } from "./parts.ts";
import { problemOf, problemResponse } from "./problem.ts";

/** Adds the routes of operators. */
export function mountOperations(app: Hono, { vmm, metrics, ready }: Parts): void {
  app.post("/shutdown", async (c) => {
    const { success } = await vmm.shutdown({});
    return c.json({ success });
  });
  app.get("/metrics", async () => {
    const { type, body } = await metrics.text();
    return new Response(body, { headers: { "content-type": type } });
  });
  app.get("/healthz", (c) => c.json({ status: "ok" }));
  app.get("/readyz", (c) => {
    if (ready()) return c.json({ status: "ready" });
    const error = new CloudletError("Cannot take runs: the service is about to end", {
      code: "unavailable",
    });
    return problemResponse(problemOf(error));
  });
}
