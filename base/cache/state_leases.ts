/**
 * What state needs of the cache: `<cache>/leases/<id>.json`.
 *
 * The cache can be thrown away, state cannot. Something below `--state` that lasts, such as a named
 * snapshot, needs an image and a kernel of the cache for as long as it is there; no process may run
 * meanwhile that holds a {@link ./lease.ts | lease}. So a record in the cache names the entries, and the
 * path of what needs them. Whether that is still there is looked up each time: nothing has to be
 * given back when it is removed.
 *
 * The record is in the cache and not with the state, since who collects has to find it, in whatever
 * directory a server keeps its state, and also while that is not mounted.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { CloudletError, messageOf } from "../errors.ts";
import { writeFileAtomic } from "../files.ts";
import { sha256 } from "../store.ts";
import { isId } from "./about.ts";

/** A record. */
export interface StateLease {
  /** Absolute path of what needs the entries. */
  readonly holder: string;
  /** The entries, as `<kind>/<key>`. */
  readonly entries: readonly string[];
}

const DIRECTORY = "leases";
/** A record is written before what it is for; so long may making that take, in milliseconds. */
const BEFORE = 24 * 60 * 60 * 1000;

function recordOf(cache: string, holder: string): string {
  return join(cache, DIRECTORY, `${sha256(holder).slice(0, 32)}.json`);
}

/**
 * Has entries of the cache stay for as long as `holder` is there. It need not be there yet: the record
 * is written first, by a process that holds the entries until `holder` is whole.
 *
 * @param cache directory of the cache
 * @param lease in place of what was said of the same holder before
 */
export async function keepForState(cache: string, { holder, entries }: StateLease): Promise<void> {
  const wrong = entries.find((id) => !isId(id));
  if (wrong !== undefined || !holder.startsWith("/")) {
    throw new CloudletError(
      `Cannot keep ${wrong ?? holder} for state: it is no ${wrong ? "entry" : "absolute path"}`,
      { code: "internal" },
    );
  }
  const record = { holder, entries, device: deviceOf(holder) };
  await writeFileAtomic(recordOf(cache, holder), JSON.stringify(record) + "\n");
}

/** Forgets what `holder` needs; not to be called before it is removed. */
export async function forgetState(cache: string, holder: string): Promise<void> {
  await Deno.remove(recordOf(cache, holder)).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/**
 * What state needs. Records of what is there no more are removed, but not those of a file system that
 * is not mounted.
 *
 * @returns by entry, what needs it
 * @throws {CloudletError} `host` for a record that cannot be read: nothing may be removed then
 */
export function readStateLeases(
  cache: string,
  now: number = Date.now(),
): ReadonlyMap<string, string> {
  const needed = new Map<string, string>();
  const directory = join(cache, DIRECTORY);
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(directory), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return needed;
    throw error;
  }
  for (const name of names) {
    if (name.startsWith(".")) continue;
    const path = join(directory, name);
    const lease = readRecord(path);
    if (lease === undefined) continue;
    if (isGone(lease) && now - lease.written > BEFORE) {
      try {
        Deno.removeSync(path);
      } catch {
        // another process was faster
      }
      continue;
    }
    for (const id of lease.entries) needed.set(id, lease.holder);
  }
  return needed;
}

/**
 * Has what a user names removed only if no state needs it.
 *
 * @param ids of entries, as `<kind>/<key>`
 * @throws {CloudletError} `conflict` with what needs one of them
 */
export function checkUnneeded(cache: string, ids: readonly string[]): void {
  const needed = readStateLeases(cache);
  for (const id of ids) {
    const holder = needed.get(id);
    if (holder === undefined) continue;
    throw new CloudletError(`Cannot remove ${id} from the cache: ${holder} needs it`, {
      code: "conflict",
      remedy: "remove that first",
    });
  }
}

/** A record as it is written. */
interface Written extends StateLease {
  /** st_dev of the file system that the holder is on. */
  readonly device: number | null;
  /** When, in milliseconds since 1970. */
  readonly written: number;
}

function readRecord(path: string): Written | undefined {
  try {
    const written = Deno.statSync(path).mtime?.getTime() ?? 0;
    const { holder, entries, device } = JSON.parse(Deno.readTextFileSync(path)) ?? {};
    if (typeof holder !== "string" || !Array.isArray(entries) || !entries.every(isId)) {
      throw new Error("it is malformed");
    }
    return { holder, entries, device, written };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined; // forgotten meanwhile
    throw new CloudletError(
      `Cannot read what state needs of the cache in ${path}: ${messageOf(error)}`,
      { code: "host", remedy: "remove the file if no server has state any more", cause: error },
    );
  }
}

/** Whether the file system is there that something was on, and it is not. */
function isGone({ holder, device }: Written): boolean {
  try {
    Deno.lstatSync(holder);
    return false;
  } catch (error) {
    return error instanceof Deno.errors.NotFound && deviceOf(holder) === device;
  }
}

/** st_dev of the nearest directory above a path that is there; null where that cannot be told. */
function deviceOf(path: string): number | null {
  const parent = dirname(path);
  try {
    return Deno.statSync(parent).dev;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) || parent === path) return null;
    return deviceOf(parent);
  }
}
