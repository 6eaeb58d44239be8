/**
 * The HTTP API: one Hono application in front of VmmService. A file has the routes of one resource.
 *
 * @module
 */
import { createClient, createRouterTransport } from "@connectrpc/connect";
import type { ConnectRouter } from "@connectrpc/connect";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { routePath } from "hono/route";
import { CloudletError } from "../../base/errors.ts";
import { type RunVmmRequest, VmmService } from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { fromConnectError } from "../../service/connect_errors.ts";
import type { RequestHead } from "../../service/server.ts";
import type { RunStore } from "../../service/run_store.ts";
import { mountConnect } from "./connect_mount.ts";
import { makeGuard } from "./guard.ts";
import type { Keys } from "./keys.ts";
import { mountLogs } from "./logs.ts";
import type { Metrics } from "./metrics.ts";
import { docsPage, openApiDocument } from "./openapi.ts";
import { mountOperations } from "./operations.ts";
import type { Parts } from "./parts.ts";
import { HttpError, problemOf, problemResponse } from "./problem.ts";
import { mountRuns } from "./runs.ts";

/** What the API is made of. */
export interface ApiOptions {
  /** Registers VmmService. */
  readonly routes: (router: ConnectRouter) => void;
  /** Where runs are noted. */
  readonly store: RunStore;
  /** Checks a request, and starts nothing. */
  readonly check: (request: RunVmmRequest) => void;
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
  const { store, check, metrics } = options;
  const vmm = createClient(VmmService, createRouterTransport(options.routes));
  const app = new Hono();

  app.onError((error) => {
    const known = error instanceof CloudletError ? error : fromConnectError(error);
    if (known.code === "internal") console.error("cloudlet: unexpected error:", error);
    return problemResponse(problemOf(known, error instanceof HttpError ? error.status : undefined));
  });
  app.notFound((c) => {
    const methods = methodsOf(app, c.req.path);
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

  const parts: Parts = { vmm, store, check, metrics, limited, ready: options.ready };
  mountRuns(app, parts);
  mountLogs(app, parts);
  mountOperations(app, parts);
  app.get("/openapi.json", (c) => c.json(openApiDocument(options.version)));
  docsPage(app);
  mountConnect(app, options.routes, options.maxBody);
  return app;
}

/** The methods that a path takes, as the Allow field has them (RFC 9110 10.2.1). */
function methodsOf({ routes }: Hono, path: string): string[] {
  const names = path.split("/");
  const methods = routes.filter(({ path, method }) => {
    const pattern = path.split("/");
    return method !== "ALL" && pattern.length === names.length &&
      pattern.every((name, i) => name.startsWith(":") ? names[i] !== "" : name === names[i]);
  }).flatMap(({ method }) => method === "GET" ? ["GET", "HEAD"] : method);
  return [...new Set(methods)];
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
