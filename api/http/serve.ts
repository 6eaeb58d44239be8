/**
 * `cloudlet serve` without its command line: the HTTP API and VmmService over one orchestrator.
 *
 * @module
 */
import { join } from "node:path";
import { isLoopback } from "../../base/addresses.ts";
import { CloudletError, messageOf } from "../../base/errors.ts";
import type { Progress } from "../../base/progress.ts";
import { Orchestrator, type OrchestratorOptions } from "../../service/orchestrator.ts";
import type { PreparedWorkloads } from "../../service/prepared.ts";
import { vmmRoutes } from "../../service/routes.ts";
import { serveVmm, type VmmServer } from "../../service/server.ts";
import { RunStore } from "../../service/run_store.ts";
import type { RunLimits } from "../../service/workload.ts";
import { createApp } from "./app.ts";
import { makeGuard, ownNames } from "./guard.ts";
import type { Keys } from "./keys.ts";
import { Metrics } from "./metrics.ts";

/** An address to listen on. */
export interface Address {
  /** Name or IP address. */
  readonly hostname: string;
  /** TCP port; 0 takes a free one. */
  readonly port: number;
}

/** How the service is offered. */
export interface ServeOptions {
  /** Makes the machines; ends with the service. */
  readonly node: OrchestratorOptions["node"];
  /** Where the HTTP API listens. */
  readonly api: Address;
  /** Where VmmService listens. */
  readonly vmm: Address;
  /** Directory of the store of runs. */
  readonly stateDirectory: string;
  /** Where prepared workloads are kept. */
  readonly prepared: PreparedWorkloads;
  /** Keys that requests must carry. */
  readonly keys?: Keys;
  /** Bounds of one run. */
  readonly limits: RunLimits;
  /** Largest request body or message in bytes. */
  readonly maxBody: number;
  /** Version of cloudlet. */
  readonly version: string;
  /** Hears of fetching, building and booting. */
  readonly progress?: Progress;
}

/** A service that listens. */
export interface Service {
  /** Where the HTTP API listens. */
  readonly api: Address;
  /** Where VmmService listens. */
  readonly vmm: Address;
  /** What runs the workloads. */
  readonly orchestrator: Orchestrator;
  /**
   * Ends the service: no new run is taken, programs get SIGTERM, and what still runs after `grace`
   * milliseconds is ended.
   */
  close(grace: number): Promise<void>;
}

/**
 * Starts the service.
 *
 * @throws {CloudletError} `invalid-input` for an address that others reach, without keys; `conflict`
 *   when a port is taken or another server has the store
 */
export async function startService(options: ServeOptions): Promise<Service> {
  const { keys } = options;
  for (const { hostname } of [options.api, options.vmm]) {
    if (keys !== undefined || isLoopback(hostname)) continue;
    throw new CloudletError(
      `Cannot serve on ${hostname}: others reach it, and no API key is configured`,
      { code: "invalid-input", remedy: "give --keys a file of keys, or serve on localhost" },
    );
  }
  await using stack = new AsyncDisposableStack();
  const store = stack.use(await RunStore.open(join(options.stateDirectory, "runs.sqlite")));
  const metrics = new Metrics();
  const orchestrator = stack.use(
    new Orchestrator({
      prepared: options.prepared,
      store,
      node: options.node,
      limits: options.limits,
      onEnd: (run) => metrics.ended(run),
      ...(options.progress && { progress: options.progress }),
    }),
  );
  metrics.watch(orchestrator);
  // With keys, a page has none, by whatever name it reaches the server.
  const doorOf = ({ hostname }: Address) =>
    keys === undefined ? { hosts: ownNames(hostname) } : { keys };
  const app = createApp({
    routes: vmmRoutes(orchestrator),
    store,
    check: (request) => orchestrator.check(request),
    metrics,
    ready: () => orchestrator.open,
    maxBody: options.maxBody,
    version: options.version,
    ...doorOf(options.api),
  });
  const http = listen(app.fetch, options.api);
  stack.defer(() => http.shutdown());
  const vmm: VmmServer = stack.use(
    await serveVmm(orchestrator, {
      ...options.vmm,
      maxMessage: options.maxBody,
      admit: makeGuard(doorOf(options.vmm)),
    }),
  );
  const parts = stack.move();
  return {
    api: { hostname: options.api.hostname, port: http.addr.port },
    vmm: { hostname: options.vmm.hostname, port: vmm.port },
    orchestrator,
    async close(grace) {
      await orchestrator.close(grace); // while the servers still tell what happens
      await parts.disposeAsync();
    },
  };
}

function listen(
  fetch: (request: Request) => Response | Promise<Response>,
  { hostname, port }: Address,
): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({ hostname, port, onListen() {} }, fetch);
  } catch (cause) {
    const taken = cause instanceof Deno.errors.AddrInUse;
    throw new CloudletError(`Cannot listen on ${hostname}:${port}: ${messageOf(cause)}`, {
      code: taken ? "conflict" : "host",
      remedy: taken ? "stop what uses the port, or choose another" : "choose another address",
      cause,
    });
  }
}
