/**
 * Files that are never seen half-written: temporary name, then rename.
 *
 * Everything unfinished lives in a directory `.tmp-of-<id>` beside its goal, and is registered here so
 * that it is removed on errors and when the process ends by itself or with `Deno.exit`. What a signal
 * leaves is removed by {@linkcode sweepTemporary}, which the next user of the directory calls. The
 * owner holds a lock on the directory (flock(2)), which ends with the process, however that ends. A
 * process id would not tell: processes of several PID namespaces may share a cache.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { syncPath } from "./durable.ts";
import { CloudletError, messageOf } from "./errors.ts";

// Not a digit after the dash: earlier versions take that for a process id, and sweep what it left.
const TEMPORARY = ".tmp-of-";

/** What has to be removed when the process ends early; signals are base/signals.ts's. */
const unfinished = new Set<string>();

function removeQuietly(path: string): void {
  for (const attempt of [() => {}, () => makeRemovable(path)]) {
    try {
      attempt();
      return Deno.removeSync(path, { recursive: true });
    } catch {
      // gone already, or a directory in it is read-only, or not ours to remove any more
    }
  }
}

/** A root image's directories may be read-only, and only root can empty such a one. */
function makeRemovable(path: string): void {
  if (!Deno.lstatSync(path).isDirectory) return;
  Deno.chmodSync(path, 0o700);
  for (const { name, isDirectory } of Deno.readDirSync(path)) {
    if (isDirectory) makeRemovable(join(path, name));
  }
}

function removeUnfinished(): void {
  unfinished.forEach(removeQuietly);
}

/** Has `path` and all below it removed when disposed, or when the process ends before that. */
export function removeAtEnd(path: string): Disposable {
  if (unfinished.size === 0) globalThis.addEventListener("unload", removeUnfinished);
  unfinished.add(path);
  return {
    [Symbol.dispose]() {
      removeQuietly(path);
      unfinished.delete(path);
      if (unfinished.size === 0) globalThis.removeEventListener("unload", removeUnfinished);
    },
  };
}

/**
 * Makes a directory that only this user can enter, or sees to it that the one that is there is such:
 * where everybody may write, somebody else may have made it first.
 *
 * @throws {CloudletError} `host` when it is somebody else's, no directory, or open to others
 */
export function makePrivateDirectory(path: string): void {
  Deno.mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    Deno.mkdirSync(path, { mode: 0o700 });
    return;
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  const { isDirectory, uid, mode } = Deno.lstatSync(path); // a link could lead anywhere
  const why = !isDirectory
    ? "it is no directory"
    : uid !== Deno.uid()
    ? `it belongs to another user (${uid})`
    : (mode! & 0o077) !== 0
    ? "other users can enter it"
    : undefined;
  if (why === undefined) return;
  throw new CloudletError(`Cannot use the directory ${path}: ${why}`, {
    code: "host",
    remedy: "remove it, or point XDG_RUNTIME_DIR at a directory of your own",
  });
}

/** A directory that is locked by its owner, and removed with all below it when disposed. */
export interface OwnedDirectory extends Disposable {
  /** Absolute path. */
  readonly path: string;
}

/** In bytes. Short, since a Unix socket's path has at most 107 bytes (unix(7)). */
const OWNER_ID = 6;
const ATTEMPTS = 100;

/**
 * Makes a directory that {@linkcode sweepOwned} leaves alone while this process lives, in whatever
 * PID namespace it and the sweeper are. Only this user can enter it.
 *
 * @param parent exists
 * @param prefix of its name, which an id follows
 */
export function makeOwnedDirectory(parent: string, prefix: string): OwnedDirectory {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const id = crypto.getRandomValues(new Uint8Array(OWNER_ID)).toHex();
    const path = resolve(parent, prefix + id);
    const removal = removeAtEnd(path);
    try {
      Deno.mkdirSync(path, { mode: 0o700 });
      const lock = lockedDirectory(path);
      if (lock !== undefined) {
        return {
          path,
          [Symbol.dispose]() {
            removal[Symbol.dispose](); // before the lock goes
            lock.close();
          },
        };
      }
    } catch (error) {
      removal[Symbol.dispose]();
      throw error;
    }
    removal[Symbol.dispose](); // somebody swept it before it was locked
  }
  throw new CloudletError(`Cannot make a directory in ${parent}: it is removed each time`, {
    code: "host",
    remedy: "end whatever removes files there",
  });
}

/** Removes the directories with such names whose owners have ended. */
export function sweepOwned(parent: string, prefix: string): void {
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(parent), ({ name }) => name);
  } catch {
    return; // no directory, nothing left
  }
  for (const name of names) {
    if (!name.startsWith(prefix) || !OWNED_ID.test(name.slice(prefix.length))) continue;
    const path = join(parent, name);
    try {
      using lock = lockedDirectory(path);
      if (lock !== undefined) removeQuietly(path);
    } catch {
      // not ours to open
    }
  }
}

const OWNED_ID = new RegExp(`^[0-9a-f]{${2 * OWNER_ID}}$`);

/**
 * A directory or file with an exclusive lock on it; undefined when it is locked already, or gone.
 */
export function lockedDirectory(path: string): Deno.FsFile | undefined {
  let directory: Deno.FsFile;
  try {
    directory = Deno.openSync(path, { read: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  try {
    if (directory.tryLockSync(true) && sameFile(directory, path)) return directory;
  } catch (error) {
    directory.close();
    throw error;
  }
  directory.close();
  return undefined;
}

/** Whether a path still leads to what is open: who had the lock before may have removed it. */
export function sameFile(file: Deno.FsFile, path: string): boolean {
  try {
    const [here, there] = [file.statSync(), Deno.statSync(path)];
    return here.ino === there.ino && here.dev === there.dev;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A name in a directory that no reader looks at; removed when disposed, unless it was moved away. */
export interface Temporary extends Disposable {
  /** Absolute path; nothing exists there at first. */
  readonly path: string;
}

/**
 * Reserves a temporary name below `directory`, which is created when missing.
 *
 * @param directory where the finished thing will be, so that a rename stays on one file system
 */
export function temporaryIn(directory: string): Temporary {
  Deno.mkdirSync(directory, { recursive: true });
  const owned = makeOwnedDirectory(directory, TEMPORARY);
  return { path: join(owned.path, "it"), [Symbol.dispose]: () => owned[Symbol.dispose]() };
}

/**
 * Writes a whole file so that readers see the old or the new content, never a part, not even after a
 * power cut.
 *
 * @param mode permission bits, less the process's umask
 * @throws {CloudletError} `host` when the file system refuses, such as when it is full
 */
export async function writeFileAtomic(
  path: string,
  content: Uint8Array | string | ReadableStream<Uint8Array>,
  mode = 0o666,
): Promise<void> {
  using temporary = temporaryIn(dirname(path));
  try {
    if (typeof content === "string") await Deno.writeTextFile(temporary.path, content, { mode });
    else await Deno.writeFile(temporary.path, content, { mode });
    await syncPath(temporary.path);
    await Deno.rename(temporary.path, path);
  } catch (cause) {
    throw diskError(`Cannot write ${path}`, cause);
  }
}

/** Writes all bytes; one call of `writeSync` may take only some. */
export function writeAllSync(
  file: { writeSync(bytes: Uint8Array): number },
  bytes: Uint8Array,
): void {
  for (let rest = bytes; rest.length > 0;) rest = rest.subarray(file.writeSync(rest));
}

/** The text of a file, or undefined when there is none. */
export async function readTextIfAny(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The trimmed text of a file of /proc or /sys; undefined when this kernel has none, or hides it. */
export function readKernelText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch {
    return undefined;
  }
}

/** Why a file that the user named cannot be used, in words that go on after "Cannot …: ". */
export function reasonOfFile(cause: unknown): string {
  if (cause instanceof Deno.errors.NotFound) return "there is no such file";
  if (cause instanceof Deno.errors.PermissionDenied) return "you may not read it";
  if (cause instanceof Deno.errors.IsADirectory) return "it is a directory";
  return messageOf(cause);
}

/** Wraps an error of the file system, naming the remedy where there is a known one. */
export function diskError(what: string, cause: unknown): unknown {
  if (!(cause instanceof Error) || !("code" in cause)) return cause;
  const remedy: Record<string, string> = {
    ENOSPC: "free some disk space or point XDG_CACHE_HOME at a larger file system",
    EDQUOT: "free some of your disk quota or point XDG_CACHE_HOME elsewhere",
    EACCES: "make the directory writable for you or point XDG_CACHE_HOME elsewhere",
    EROFS: "point XDG_CACHE_HOME at a writable file system",
  };
  const advice = remedy[String(cause.code)];
  if (advice === undefined) return cause;
  return new CloudletError(`${what}: ${cause.message}`, { code: "host", remedy: advice, cause });
}

/** Removes what killed processes left unfinished in `directory`. */
export function sweepTemporary(directory: string): void {
  sweepOwned(directory, TEMPORARY);
}

/** The same in `directory` and in those up to `depth` levels below it. */
export function sweepTemporaryBelow(directory: string, depth: number): void {
  sweepTemporary(directory);
  if (depth === 0) return;
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(directory)];
  } catch {
    return; // nothing is there
  }
  for (const { name, isDirectory } of entries) {
    if (isDirectory) sweepTemporaryBelow(join(directory, name), depth - 1);
  }
}

/**
 * Runs `work` while holding an exclusive advisory lock on the file `path` (flock(2): it ends with
 * the process, however that ends).
 *
 * @param path lock file; removed at the end, so that none is left for each thing that was ever locked
 * @param work what to do
 * @param onWait called once when somebody else holds the lock
 * @param signal ends the wait, not the work; its reason is thrown
 */
export async function withLock<T>(
  path: string,
  work: () => Promise<T>,
  onWait?: () => void,
  signal?: AbortSignal,
): Promise<T> {
  signal?.throwIfAborted();
  await Deno.mkdir(dirname(path), { recursive: true });
  for (let waited = false;;) {
    using file = await Deno.open(path, { create: true, write: true, read: true });
    if (!(await file.tryLock(true))) {
      if (!waited) onWait?.();
      waited = true;
      await waitForLock(file, signal);
    }
    if (!sameFile(file, path)) continue; // who had it removed it: what is locked now is no lock
    return await endingLock(path, work);
  }
}

/**
 * The same, unless somebody else holds the lock.
 *
 * @returns undefined when somebody does
 */
export async function unlessLocked<T>(
  path: string,
  work: () => Promise<T>,
): Promise<T | undefined> {
  await Deno.mkdir(dirname(path), { recursive: true });
  using file = await Deno.open(path, { create: true, write: true, read: true });
  if (!(await file.tryLock(true)) || !sameFile(file, path)) return undefined;
  return await endingLock(path, work);
}

/** Does the work, and removes the file of the lock while it is still held. */
async function endingLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } finally {
    await Deno.remove(path).catch(() => {}); // its directory may be gone, or read-only by now
  }
}

/** Between two looks whether a lock is free, in milliseconds; the first is the shortest. */
const LOCK_LOOKS = { first: 5, last: 200 };

/**
 * Waits for a lock on an open file, looking again and again: a thread that sleeps in flock(2) could
 * not be woken when nobody wants the lock any more, and would get it.
 *
 * @param exclusive whether it is an exclusive one
 * @throws the signal's reason
 */
export async function waitForLock(
  file: Deno.FsFile,
  signal?: AbortSignal,
  exclusive: boolean = true,
): Promise<void> {
  signal?.throwIfAborted();
  for (let pause = LOCK_LOOKS.first; !(await file.tryLock(exclusive)); pause *= 2) {
    await delay(Math.min(pause, LOCK_LOOKS.last), undefined, { signal }).catch(() => {});
    signal?.throwIfAborted();
  }
}
