/**
 * What the routes of each resource are made of.
 *
 * @module
 */
import type { Client } from "@connectrpc/connect";
import type { MiddlewareHandler } from "hono";
import { CloudletError } from "../../base/errors.ts";
import type { RunVmmRequest, VmmService } from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import type { RunRecord, RunStore } from "../../service/run_store.ts";
import type { Metrics } from "./metrics.ts";

/** What the routes of each resource are made of. */
export interface Parts {
  /** The service, called in this process. */
  readonly vmm: Client<typeof VmmService>;
  /** Where runs are recorded. */
  readonly store: RunStore;
  /** Checks a request, and starts nothing. */
  readonly check: (request: RunVmmRequest) => void;
  /** What is counted. */
  readonly metrics: Metrics;
  /** Bounds the body of a request. */
  readonly limited: MiddlewareHandler;
  /** Whether new runs are taken. */
  readonly ready: () => boolean;
}

/**
 * The record of a run.
 *
 * @throws {CloudletError} `not-found` when no run has this id
 */
export function findRun(store: RunStore, id: string): RunRecord {
  const run = store.get(id);
  if (run !== undefined) return run;
  throw new CloudletError(`Cannot find the run ${JSON.stringify(id.slice(0, 128))}`, {
    code: "not-found",
    remedy: "GET /runs lists the runs",
  });
}
