/**
 * Removing entries of the cache that no process uses: see {@link ./lease.ts}.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { CloudletError, messageOf } from "../errors.ts";
import { lockedDirectory, temporaryIn, unlessLocked } from "../files.ts";
import { type Entry, lastUse } from "./scan.ts";

/** What became of an entry that was to be removed. */
export type Removal =
  /** It is gone. */
  | "removed"
  /** A process uses it, or is making it again. */
  | "in use"
  /** It was used since it was looked at. */
  | "used since"
  /** It was gone already. */
  | "gone";

/** How {@linkcode removeEntry} goes about it. */
export interface RemoveOptions {
  /** Only say what would become of it. */
  readonly dryRun?: boolean;
  /** Remove it also when it was used since it was looked at; not when it is in use now. */
  readonly anyUse?: boolean;
  /** Asked once more when no process can use it any more. */
  readonly needed?: () => boolean;
}

/**
 * Removes an entry, unless a process uses it. It is gone at once, by a rename: nobody sees a part.
 *
 * @param entry as it was looked at
 * @throws {CloudletError} `host` where it may not be removed, or nothing can be locked
 */
export async function removeEntry(entry: Entry, options: RemoveOptions = {}): Promise<Removal> {
  try {
    return entry.form === "files"
      ? removeFile(entry, options)
      : await removeDirectory(entry, options);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "gone";
    throw new CloudletError(`Cannot remove ${entry.path}: ${messageOf(error)}`, {
      code: "host",
      cause: error,
    });
  }
}

/** What files are in use with: the directory of their kind, see leaseFiles() of kinds.ts. */
function lockOf({ path, form, kind, id }: Entry): string {
  return form === "files" ? join(path.slice(0, -id.length), kind) : path;
}

/** Whether a process uses an entry now. */
export function isInUse(entry: Entry): boolean {
  try {
    using lock = lockedDirectory(lockOf(entry));
    return lock === undefined;
  } catch {
    return false;
  }
}

function removeFile(entry: Entry, { dryRun, anyUse }: RemoveOptions): Removal {
  using lock = lockedDirectory(lockOf(entry));
  if (lock === undefined) return "in use";
  if (lastUse(Deno.lstatSync(entry.path), entry.form) > entry.used && !anyUse) return "used since";
  if (dryRun !== true) Deno.removeSync(entry.path);
  return "removed";
}

async function removeDirectory(
  entry: Entry,
  { dryRun, anyUse, needed = () => false }: RemoveOptions,
): Promise<Removal> {
  const { path, form, used } = entry;
  if (dryRun) {
    if (isInUse(entry)) return "in use";
    return !anyUse && lastUse(Deno.lstatSync(path), form) > used ? "used since" : "removed";
  }
  const store = dirname(path);
  using temporary = temporaryIn(store);
  // With the lock of its making, nothing else can come to its place before it is renamed.
  const removal = await unlessLocked(join(store, `.${basename(path)}.lock`), () => {
    using lock = lockedDirectory(path);
    const since = lastUse(Deno.lstatSync(path), form) > used;
    if (lock === undefined) return Promise.resolve<Removal>("in use");
    if (since && !anyUse || needed()) return Promise.resolve<Removal>("used since");
    Deno.renameSync(path, temporary.path);
    return Promise.resolve<Removal>("removed");
  });
  // What has thousands of files does not keep others from going on meanwhile; what this cannot
  // remove, such as the content of a directory that is read-only, the temporary can.
  if (removal === "removed") {
    await Deno.remove(temporary.path, { recursive: true }).catch(() => {});
  }
  return removal ?? "in use";
}

/** Removes files of locks that nobody holds, which killed processes left. */
export function removeLocks(paths: readonly string[]): void {
  for (const path of paths) {
    try {
      using lock = lockedDirectory(path);
      if (lock !== undefined) Deno.removeSync(path);
    } catch {
      // gone, or somebody else's
    }
  }
}
