/**
 * Leases: what a process uses of the cache, so that no other one removes it.
 *
 * A lease is a shared flock(2) on the directory of an entry. It ends with the process, however that
 * ends. {@link ./remove.ts} takes an exclusive one before it removes anything, and does so by a rename:
 * who gets a lease of what is still in its place has it until it gives the lease back. Of one entry a
 * process holds one descriptor, however many leases it has.
 *
 * A lease of an entry covers what the entry needs (see {@link ./about.ts}), and notes its use: the time
 * of modification of its directory is that of its last use.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { CloudletError, messageOf } from "../errors.ts";
import { sameFile, waitForLock } from "../files.ts";
import { readAbout } from "./about.ts";

/** Something of the cache that stays while this is not disposed. */
export interface Lease extends Disposable {
  /** Absolute path of the entry. */
  readonly path: string;
}

interface Held {
  readonly file: Deno.FsFile;
  leases: number;
}

/** What this process holds, by path; one that was replaced meanwhile is in here no more. */
const held = new Map<string, Held>();

/**
 * Has an entry stay, and notes that it is used now.
 *
 * @param path directory of the entry, `<cache>/<kind>/<key>`
 * @param signal ends the wait for a process that looks whether it can be removed
 * @returns undefined when it is not there, or is being removed
 * @throws {CloudletError} `host` when that cannot be told now
 */
export async function lease(path: string, signal?: AbortSignal): Promise<Lease | undefined> {
  const own = await take(resolve(path), signal);
  if (own === undefined) return undefined;
  using stack = new DisposableStack();
  stack.use(own);
  const cache = dirname(dirname(own.path));
  for (const needed of readAbout(own.path).needs) {
    const lease = await take(join(cache, needed), signal);
    if (lease !== undefined) stack.use(lease);
  }
  const all = stack.move();
  return { path: own.path, [Symbol.dispose]: () => all.dispose() };
}

/**
 * Leases of several entries, or of none.
 *
 * @param paths of entries, or of files below them; what is in no cache is left out
 * @returns undefined when one of them is gone
 */
export async function leaseAll(
  paths: readonly string[],
  cache: string,
  signal?: AbortSignal,
): Promise<Disposable | undefined> {
  using stack = new DisposableStack();
  for (const id of entriesOf(paths, cache)) {
    const one = await lease(join(cache, id), signal);
    if (one === undefined) return undefined;
    stack.use(one);
  }
  return stack.move();
}

/** Attempts to hold what is removed meanwhile: somebody may clean the cache at the same time. */
const ATTEMPTS = 3;

/**
 * Finds or makes something and takes a lease of it; again when it was removed in between.
 *
 * @param take gives undefined when it was removed before it could be held
 * @param lost what is thrown when it is removed each time
 * @param isGone which errors of `take` mean the same; the last one is thrown
 */
export async function untilHeld<T>(
  take: () => Promise<T | undefined>,
  lost: () => CloudletError,
  isGone: (error: unknown) => boolean = () => false,
): Promise<T> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    try {
      const held = await take();
      if (held !== undefined) return held;
    } catch (error) {
      if (attempt === ATTEMPTS || !isGone(error)) throw error;
    }
  }
  throw lost();
}

/** The entries, as `<kind>/<key>`, that files belong to; what is in no cache is left out. */
export function entriesOf(paths: readonly string[], cache: string): string[] {
  const ids = paths.flatMap((path) => {
    if (!path.startsWith(`${cache}/`)) return [];
    const [kind, key] = path.slice(cache.length + 1).split("/");
    return kind && key ? [`${kind}/${key}`] : [];
  });
  return [...new Set(ids)];
}

async function take(path: string, signal: AbortSignal | undefined): Promise<Lease | undefined> {
  for (;;) {
    const known = held.get(path);
    if (known !== undefined) {
      if (sameFile(known.file, path)) return count(path, known);
      held.delete(path); // another one is in its place, or none
    }
    using stack = new DisposableStack();
    let file: Deno.FsFile;
    try {
      file = stack.use(Deno.openSync(path));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw unusable(path, error);
    }
    try {
      if (!file.tryLockSync(false)) await waitForLock(file, signal, false);
    } catch (error) {
      signal?.throwIfAborted();
      if (!isUnsupported(error)) throw unusable(path, error);
    }
    // While this one waited, it may have been removed, or another call may have got it.
    if (held.has(path) || !sameFile(file, path)) continue;
    stack.move();
    const own = { file, leases: 0 };
    held.set(path, own);
    return count(path, own);
  }
}

/** It may be good: the host has no descriptors left, say. */
function unusable(path: string, cause: unknown): CloudletError {
  return new CloudletError(`Cannot use ${path}: ${messageOf(cause)}`, { code: "host", cause });
}

/** File systems without flock(2) of directories: nothing can be removed from those either. */
function isUnsupported(error: unknown): boolean {
  return error instanceof Deno.errors.NotSupported ||
    error instanceof Error && "code" in error &&
      /^E(NOTSUP|OPNOTSUPP|NOSYS|NOLCK|INVAL|BADF)$/.test(
        String(error.code),
      );
}

function count(path: string, own: Held): Lease {
  own.leases++;
  try {
    const now = new Date();
    own.file.utimeSync(now, now);
  } catch {
    // a cache that only others may write to
  }
  let ended = false;
  return {
    path,
    [Symbol.dispose]() {
      if (ended) return;
      ended = true;
      if (--own.leases > 0) return;
      if (held.get(path) === own) held.delete(path);
      own.file.close();
    },
  };
}
