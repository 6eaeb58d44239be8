/**
 * VmmService inside this process: what `run` uses when it is given no server.
 *
 * @module
 */
import type { Transport } from "@connectrpc/connect";
import type { Progress } from "../base/progress.ts";
import { hostLimits } from "../vmm/service/host_limits.ts";
import { microVms } from "../vmm/service/microvm.ts";
import { Orchestrator } from "../vmm/service/orchestrator.ts";
import { PreparedWorkloads } from "../vmm/service/prepared.ts";
import { inMemoryTransport } from "../vmm/service/routes.ts";
import { RunStore } from "../vmm/service/run_store.ts";

/** What a run in this process may say besides what a server is told. */
export interface EmbeddedOptions {
  /** Hears of what is fetched, built and booted. */
  readonly progress?: Progress;
  /** `debian`, `built`, or the path of a vmlinux; what suits the host when absent. */
  readonly kernel?: string;
  /** False boots each machine instead of restoring it from a snapshot. */
  readonly snapshot?: boolean;
}

/** A transport to a service of its own, which holds nothing while no run is under way. */
export function embeddedTransport(options: EmbeddedOptions): Transport {
  const { progress, kernel, snapshot = true } = options;
  const { admission, limits } = hostLimits();
  return inMemoryTransport(
    new Orchestrator({
      machines: microVms({ ...(kernel !== undefined && { kernel }), snapshots: snapshot }),
      store: RunStore.inMemory(),
      prepared: new PreparedWorkloads(),
      admission,
      limits: { ...limits, localImages: true }, // it is the caller's own disk
      ...(progress && { progress }),
    }),
  );
}
