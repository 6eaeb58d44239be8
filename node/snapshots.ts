/**
 * The snapshots of this host: `<cache>/snapshots/<key>/{state,memory,about.json}`. The last says what
 * they need of the cache, and is for those who look after it.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { writeAbout } from "../base/cache/about.ts";
import { entriesOf, untilHeld } from "../base/cache/lease.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import { cacheKey, type KeyPart, Store } from "../base/store.ts";
import type { GuestParts } from "./snapshot_key.ts";
import { Snapshot } from "../vmm/snapshot/snapshot.ts";

/** One snapshot in the cache. */
export interface CachedSnapshot {
  /** Name of its directory. */
  readonly key: string;
  /** Bytes that it takes on the disk. */
  readonly bytes: number;
  /** When it was last used. */
  readonly used: Date;
}

/** The store of snapshots. */
export function snapshotStore(): Store {
  return new Store(join(cacheDir(), "snapshots"));
}

/** What a snapshot is made with. */
export interface MakeOptions {
  /** Saves a snapshot into the empty directory that it is given. */
  readonly make: (directory: string) => Promise<void>;
  /** What its machine was booted from: without these files it is of no use. */
  readonly parts: readonly string[];
}

/** How {@linkcode openOrMake} goes about it. */
export interface OpenOptions extends MakeOptions {
  /** Told why a snapshot was not used, and whom one waits for. */
  readonly note: (message: string) => void;
}

/**
 * The snapshot that meets the requirements: from the cache, or made now. Of several processes that
 * want the same one, one makes it. One that cannot be used is removed and made anew.
 */
export async function openOrMake(
  requires: KeyPart,
  options: OpenOptions,
  store: Store = snapshotStore(),
): Promise<Snapshot> {
  const found = await openCached(requires, options.note, store);
  if (found !== undefined) return found;
  return await untilHeld(
    async () => {
      await store.getOrMake(
        cacheKey(requires),
        (directory) => makeEntry(requires, options, directory, store),
        () => options.note("Another process makes this snapshot; waiting for it"),
      );
      return await openLeased(requires, store);
    },
    () =>
      new CloudletError("Cannot open the snapshot: it is removed whenever it was made", {
        code: "host",
        remedy: "end whatever cleans the cache",
      }),
  );
}

/**
 * Makes a snapshot in place of the one with the same requirements, which stays when this fails.
 *
 * @param requires what it is of
 */
export async function keepSnapshot(
  requires: KeyPart,
  options: MakeOptions,
  store: Store = snapshotStore(),
): Promise<void> {
  await store.replace(
    cacheKey(requires),
    (directory) => makeEntry(requires, options, directory, store),
  );
}

async function makeEntry(
  requires: KeyPart,
  { make, parts }: MakeOptions,
  directory: string,
  store: Store,
): Promise<void> {
  await make(directory);
  const { main, workload } = requires as Partial<GuestParts>;
  await writeAbout(directory, {
    needs: entriesOf(parts, dirname(store.root)),
    ofProgram: main !== undefined || workload !== undefined,
  });
}

/**
 * The snapshot that meets the requirements, if there is a good one. One that is unusable is removed.
 * While it is open it stays in the cache, and so does what it needs.
 *
 * @throws {CloudletError} `host` when it cannot be read now; it stays
 */
export async function openCached(
  requires: KeyPart,
  note: (message: string) => void,
  store: Store = snapshotStore(),
): Promise<Snapshot | undefined> {
  try {
    return await openLeased(requires, store);
  } catch (error) {
    if (!isUnusable(error)) throw error;
    note(`${messageOf(error)}; it is made anew`);
    await store.remove(cacheKey(requires));
    return undefined;
  }
}

async function openLeased(requires: KeyPart, store: Store): Promise<Snapshot | undefined> {
  const lease = await store.lease(cacheKey(requires));
  if (lease === undefined) return undefined;
  try {
    return await Snapshot.open(lease.path, requires, false, lease);
  } catch (error) {
    lease[Symbol.dispose]();
    throw error;
  }
}

/**
 * Whether a snapshot will never be of use again: its digest, its format or what it requires is wrong.
 * Any other error is the host's, such as a lack of descriptors, and says nothing of the snapshot.
 */
export function isUnusable(error: unknown): boolean {
  return error instanceof CloudletError && error.code === "untrusted";
}

/** All snapshots, the one used last first. */
export async function listSnapshots(store: Store = snapshotStore()): Promise<CachedSnapshot[]> {
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
