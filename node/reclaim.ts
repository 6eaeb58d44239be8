/**
 * Having a guest give back what it does not use, so that its snapshot is small.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Vm } from "../vmm/vm.ts";

/** Linux reports free memory every two seconds (mm/page_reporting.c, PAGE_REPORTING_DELAY). */
const LOOK = 1000;
const QUIET_LOOKS = 3;
const MOST_LOOKS = 20;

/**
 * Waits until the guest's free page reporting (virtio 1.2, 5.5.6.7) has nothing more to report, but
 * for no longer than twenty seconds.
 *
 * @returns bytes that came back meanwhile
 */
export async function reclaimFreeMemory(vm: Vm, signal: AbortSignal): Promise<number> {
  const first = await discarded(vm);
  let last = first;
  for (let looks = 0, quiet = 0; looks < MOST_LOOKS && quiet < QUIET_LOOKS; looks++) {
    await delay(LOOK, undefined, { signal });
    const now = await discarded(vm);
    quiet = now === last ? quiet + 1 : 0;
    last = now;
  }
  return last - first;
}

async function discarded(vm: Vm): Promise<number> {
  const balloon = (await vm.devices.statistics()).find(({ name }) => name === "balloon");
  return balloon?.counters["discardedBytes"] ?? 0;
}
