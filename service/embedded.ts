/**
 * The service for one caller in this process: this host's machines, and a record that ends with it.
 *
 * @module
 */
import { type Progress, silentProgress } from "../base/progress.ts";
import { LocalNode } from "../node/local_node.ts";
import { microVms } from "../node/microvms.ts";
import { hostLimits } from "./host_limits.ts";
import { OWN_NETWORK } from "./network.ts";
import { Orchestrator } from "./orchestrator.ts";
import { PreparedWorkloads } from "./prepared.ts";
import { RunStore } from "./run_store.ts";

/** What a run in this process may say besides what a server is told. */
export interface EmbeddedOptions {
  /** Hears of what is fetched, built and booted. */
  readonly progress?: Progress;
  /** `debian`, `built`, or the path of a vmlinux; what suits the host when absent. */
  readonly kernel?: string;
  /** Path of a file that gets the frames of the program's network, for Wireshark; none when absent. */
  readonly pcap?: string;
  /** False boots each machine instead of restoring it from a snapshot. */
  readonly snapshot?: boolean;
}

/** Such a service; it holds nothing while no run is under way. */
export function embeddedService(options: EmbeddedOptions): Orchestrator {
  const { progress, kernel, pcap, snapshot = true } = options;
  const { admission, limits } = hostLimits();
  const machines = microVms({
    ...(kernel !== undefined && { kernel }),
    snapshots: snapshot,
    capture: pcap,
  });
  return new Orchestrator({
    node: new LocalNode({ machines: () => machines, admission, progress: silentProgress }),
    store: RunStore.inMemory(),
    prepared: new PreparedWorkloads(),
    limits: { ...limits, localImages: true, network: OWN_NETWORK }, // the caller's own host
    ...(progress && { progress }),
  });
}
