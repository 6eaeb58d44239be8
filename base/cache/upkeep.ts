/**
 * Keeping the cache within the operator's budget: after builds, and in a server from time to time.
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../dirs.ts";
import { CloudletError, messageOf } from "../errors.ts";
import { sweepTemporaryBelow, unlessLocked, withLock } from "../files.ts";
import { lazyImport } from "../lazy_import.ts";
import type { CacheSettings } from "../settings.ts";
import { collect, type Collected, type CollectOptions, type Limits } from "./collect.ts";
import { scanCache } from "./scan.ts";
import { parseSize } from "./size.ts";
import { readStateLeases } from "./state_leases.ts";

/** Bytes that the cache may have when nobody says otherwise: a share of a laptop's disk. */
export const DEFAULT_BUDGET = 20 * 1024 ** 3;

const VARIABLE = "CLOUDLET_CACHE_SIZE";

/**
 * Somebody who has just found or made something takes a lease of it within so many milliseconds. Until
 * then it is not removed, so that a budget that is too small for it does not have it made for ever.
 */
const GRACE = 60_000;

/** Between two times that a server looks, in milliseconds. */
const INTERVAL = 10 * 60_000;

/**
 * Bytes that the cache may have: of CLOUDLET_CACHE_SIZE, of the settings, or the default; infinite for
 * `none` and `false`.
 *
 * @throws {CloudletError} `invalid-input` for a size that cannot be read
 */
export async function cacheBudget(): Promise<number> {
  const given = Deno.env.get(VARIABLE);
  if (given) return budgetOf(given);
  const { loadSettings } = await lazyImport<typeof import("../settings.ts")>(
    "../settings.ts",
    import.meta.url,
  );
  return budgetOf(undefined, (await loadSettings()).cache);
}

/** The budget of what the environment and the settings say. */
export function budgetOf(given: string | undefined, { size }: CacheSettings = {}): number {
  if (given) {
    const bytes = given === "none" ? Infinity : parseSize(given);
    if (bytes !== undefined) return bytes;
    throw new CloudletError(`Cannot read ${VARIABLE}=${given} as a size`, {
      code: "invalid-input",
      remedy: "write a size such as 20GiB, or none",
    });
  }
  if (size === undefined) return DEFAULT_BUDGET;
  return size === false ? Infinity : parseSize(size)!;
}

/** Which collection {@linkcode tidy} does. */
export type TidyOptions = Omit<CollectOptions, "state" | "remove">;

/**
 * Removes what killed processes left unfinished, and what is beyond the limits; one process at a time.
 *
 * @param root directory of the cache
 */
export async function tidy(
  limits: Limits,
  options: TidyOptions = {},
  root: string = cacheDir(),
): Promise<Collected> {
  return await withLock(lockOf(root), async () => {
    if (options.dryRun !== true) sweep(root);
    return await tidyNow(limits, options, root);
  });
}

/** Removes what killed processes left: `<cache>/<kind>/.tmp-…` and `<cache>/debian/<part>/.tmp-…`. */
function sweep(root: string): void {
  sweepTemporaryBelow(root, 2);
}

function lockOf(root: string): string {
  return join(root, ".collect.lock");
}

async function tidyNow(limits: Limits, options: TidyOptions, root: string): Promise<Collected> {
  const contents = await scanCache(root);
  return await collect(contents, limits, { ...options, state: () => readStateLeases(root) });
}

/**
 * Keeps the cache within the budget; what killed processes left is gone at once. What goes wrong is only noted: whoever built something has it.
 *
 * @param note told what was removed, and what went wrong
 * @param budget gives the bytes that there may be
 * @param signal ends the work before the next entry
 */
export async function keepWithinBudget(
  note: (message: string) => void = () => {},
  root: string = cacheDir(),
  budget: () => Promise<number> = cacheBudget,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  try {
    sweep(root); // each thing has a lock of its own, which its owner holds
    const bytes = await budget();
    const done = await unlessLocked(
      lockOf(root),
      () => tidyNow({ bytes }, { grace: GRACE, signal }, root),
    );
    if (done === undefined || done.removed.length === 0) return; // or another process does it
    const freed = done.removed.reduce((sum, { bytes }) => sum + bytes, 0);
    note(
      `Removed ${done.removed.length} unused entries of the cache, ` +
        `${Math.ceil(freed / 2 ** 20)} MiB, to keep it below ${Math.ceil(bytes / 2 ** 20)} MiB`,
    );
  } catch (error) {
    note(`The cache is not kept within its budget: ${messageOf(error)}`);
  }
}

/**
 * Keeps the cache within the budget until disposed, beginning now. What killed processes left
 * unfinished is gone when this returns.
 */
export function startUpkeep(
  note: (message: string) => void,
  root: string = cacheDir(),
  budget: () => Promise<number> = cacheBudget,
): AsyncDisposable {
  const end = new AbortController();
  let under = keepWithinBudget(note, root, budget, end.signal);
  const timer = setInterval(() => {
    under = under.then(() => keepWithinBudget(note, root, budget, end.signal));
  }, INTERVAL);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      end.abort();
      await under;
    },
  };
}
