/**
 * The snapshots of this host: `<cache>/snapshots/<key>/{state,memory}`.
 *
 * An entry's directory has the time of its last use as its modification time.
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../../base/dirs.ts";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { cacheKey, type KeyPart, Store } from "../../base/store.ts";
import type { GuestParts } from "./key.ts";
import { readFacts, Snapshot } from "./snapshot.ts";

/** One snapshot in the cache. */
export interface CachedSnapshot {
  /** Name of its directory. */
  readonly key: string;
  /** Bytes that it takes on the disk. */
  readonly bytes: number;
  /** When it was last used. */
  readonly used: Date;
}

/** What the cache may grow to. */
export interface CacheLimits {
  /** Bytes on the disk. */
  readonly bytes: number;
  /** Milliseconds since the last use. */
  readonly age: number;
}

/**
 * What part of the room those may take that serve one program each, prepared or waited for: there are
 * as many as a client has names for, and those that serve any program of a language take longest to make.
 */
const ROOM_OF_PROGRAMS = 1 / 2;

const DAY = 24 * 60 * 60 * 1000;
/** Limits when nobody says otherwise. */
export const DEFAULT_LIMITS: CacheLimits = { bytes: 16 * 1024 ** 3, age: 30 * DAY };

/** The store of snapshots. */
export function snapshotStore(): Store {
  return new Store(join(cacheDir(), "snapshots"));
}

/** How {@linkcode openOrMake} goes about it. */
export interface OpenOptions {
  /** Saves a snapshot into the empty directory that it is given. */
  readonly make: (directory: string) => Promise<void>;
  /** Told why a snapshot was not used, and whom one waits for. */
  readonly note: (message: string) => void;
}

/**
 * The snapshot that meets the requirements: from the cache, or made now. Of several processes that
 * want the same one, one makes it. One that cannot be used is removed and made anew.
 */
export async function openOrMake(requires: KeyPart, options: OpenOptions): Promise<Snapshot> {
  const found = await openCached(requires, options.note);
  if (found !== undefined) return found;
  const store = snapshotStore();
  const path = await store.getOrMake(
    cacheKey(requires),
    options.make,
    () => options.note("Another process makes this snapshot; waiting for it"),
  );
  await collect(DEFAULT_LIMITS, cacheKey(requires));
  return await Snapshot.open(path, requires);
}

/**
 * Makes a snapshot, in place of what there is of the same requirements.
 *
 * @param requires what it is of
 * @param make saves it into the empty directory that it is given
 */
export async function keepSnapshot(
  requires: KeyPart,
  make: (directory: string) => Promise<void>,
): Promise<void> {
  const key = cacheKey(requires);
  const store = snapshotStore();
  await store.remove(key);
  await store.getOrMake(key, make);
  await collect(DEFAULT_LIMITS, key);
}

/** The snapshot that meets the requirements, if there is a good one. */
export async function openCached(
  requires: KeyPart,
  note: (message: string) => void,
): Promise<Snapshot | undefined> {
  const store = snapshotStore();
  const key = cacheKey(requires);
  const path = await store.get(key);
  if (path === undefined) return undefined;
  try {
    const snapshot = await Snapshot.open(path, requires);
    const now = new Date();
    await Deno.utime(path, now, now).catch(() => {}); // removed meanwhile: what is open stays
    return snapshot;
  } catch (error) {
    if (!(error instanceof CloudletError)) throw error;
    note(`${messageOf(error)}; it is made anew`);
    await store.remove(key);
    return undefined;
  }
}

/** All snapshots, the one used last first. */
export async function listSnapshots(): Promise<CachedSnapshot[]> {
  const store = snapshotStore();
  const list: CachedSnapshot[] = [];
  for (const key of await store.keys()) {
    const path = join(store.root, key);
    try {
      let bytes = 0;
      for (const { name } of Deno.readDirSync(path)) {
        bytes += (Deno.statSync(join(path, name)).blocks ?? 0) * 512;
      }
      list.push({ key, bytes, used: Deno.statSync(path).mtime ?? new Date(0) });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // removed meanwhile
    }
  }
  return list.sort((a, b) => b.used.getTime() - a.used.getTime());
}

/** Whether a snapshot serves one program only, or none. */
function isOfProgram(key: string): boolean {
  try {
    const { requires } = readFacts(join(snapshotStore().root, key));
    const { main, workload } = requires as Partial<GuestParts>;
    return main !== undefined || workload !== undefined;
  } catch {
    return true; // removed meanwhile, or broken
  }
}

/**
 * Removes what was not used for long, and what was used longest ago until the rest is small enough;
 * those that serve one program each may take half of the room. A VM that runs from a snapshot keeps
 * what it has mapped.
 *
 * @param limits what may stay
 * @param keep key of one that stays in any case
 * @returns what was removed
 */
export async function collect(
  limits: CacheLimits,
  keep?: string,
): Promise<CachedSnapshot[]> {
  const removed: CachedSnapshot[] = [];
  let total = 0;
  let ofPrograms = 0;
  for (const entry of await listSnapshots()) {
    const { key, bytes, used } = entry;
    const ofProgram = isOfProgram(key) ? bytes : 0;
    const fits = total + bytes <= limits.bytes &&
      (ofProgram === 0 || ofPrograms + ofProgram <= limits.bytes * ROOM_OF_PROGRAMS);
    const old = Date.now() - used.getTime() > limits.age;
    if (key === keep || (!old && fits)) {
      total += bytes;
      ofPrograms += ofProgram;
      continue;
    }
    await snapshotStore().remove(entry.key);
    removed.push(entry);
  }
  return removed;
}
