/**
 * Makes microVMs: restored from a snapshot of such a machine, or booted.
 *
 * @module
 */
import { untilHeld } from "../base/cache/lease.ts";
import { CloudletError } from "../base/errors.ts";
import { silentProgress } from "../base/progress.ts";
import { SharedWork } from "../base/shared_work.ts";
import { cacheKey } from "../base/store.ts";
import { boot, type BootOptions, findParts, type PartsOptions } from "./boot.ts";
import { type Parts, partsGone, partsKey, tryLeaseParts } from "./boot_parts.ts";
import { Clone } from "./clone.ts";
import { BEHIND } from "./clone_identity.ts";
import { hardwareOf } from "./hardware.ts";
import { MicroVm } from "./machine.ts";
import type { NodePool } from "./local_node.ts";
import type { HostMachineFactory, HostMachineRequest } from "./host_machine.ts";
import { findSnapshot, type Found } from "./recipes.ts";
import { sweepScratch } from "./scratch.ts";
import { openCached } from "./snapshots.ts";

/** How machines are made. */
export interface MicroVmOptions extends BootOptions, PartsOptions {
  /** Whether to restore machines from snapshots, and to make those that are missing; true when absent. */
  readonly snapshots?: boolean;
  /** What builds and snapshots belong to. When absent, one that no request waits for is ended. */
  readonly shared?: SharedWork;
  /** Path of a file that gets the frames of the network; for one machine. None when absent. */
  readonly capture?: string | undefined;
  /** Keeps paused clones ready; none is when absent. */
  readonly pool?: () => Pick<NodePool<Clone>, "takePaused">;
}

/** @param given how they are made */
export function microVms(given: MicroVmOptions = {}): HostMachineFactory {
  const shared = given.shared ?? new SharedWork({ abandoned: 0 });
  const options = { ...given, shared };
  const { capture } = given;
  return async (request) => {
    const { signal } = request;
    sweepScratch();
    await using stack = new AsyncDisposableStack();
    const { parts, lease } = await leasedParts(request, options);
    stack.use(lease);
    signal.throwIfAborted();
    if (options.snapshots === false) {
      const booted = stack.use(await boot(parts, request, options));
      return new MicroVm({ ...booted, parts, request, resources: stack.move(), capture });
    }
    const found = await findSnapshot(parts, request, options);
    const { prepared } = found;
    const clone = stack.use(await cloneOf(found, parts, request, options));
    signal.throwIfAborted();
    const agent = await clone.resume(request.id, clone.clockStep + BEHIND, signal);
    const { vm, network, snapshot: base } = clone;
    const resources = stack.move();
    return new MicroVm({ vm, agent, network, capture, parts, request, resources, base, prepared });
  };
}

/** What a machine boots from, which stays until the lease is disposed. */
async function leasedParts(
  request: HostMachineRequest,
  options: MicroVmOptions & { readonly shared: SharedWork },
): Promise<{ readonly parts: Parts; readonly lease: Disposable }> {
  return await untilHeld(async () => {
    const parts = await options.shared.share(
      partsKey(request, options.kernel),
      request,
      (caller) => findParts({ ...request, ...caller }, options),
    );
    const lease = await tryLeaseParts(parts);
    return lease && { parts, lease };
  }, partsGone);
}

/** A clone that waits already, or a new one. The snapshot is taken over. */
async function cloneOf(
  { snapshot, requires }: Found,
  parts: Parts,
  request: HostMachineRequest,
  options: MicroVmOptions,
): Promise<Clone> {
  const hardware = hardwareOf(parts, request);
  const paused = options.pool?.().takePaused(cacheKey(requires), async () => {
    const own = await openCached(requires, () => {});
    if (own !== undefined) return await Clone.make(own, hardware, silentProgress);
    throw new CloudletError("Cannot keep a microVM ready: its snapshot is gone", {
      code: "not-found",
    });
  });
  if (paused === undefined) return await Clone.make(snapshot, hardware, request.progress);
  snapshot[Symbol.dispose]();
  return paused;
}
