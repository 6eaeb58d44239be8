/**
 * Files that are never seen half-written: temporary name, then rename.
 *
 * Everything unfinished lives in a directory `.tmp-<uuid>` or a file `.tmp-<uuid>` beside its goal,
 * and is registered here so that it is removed on errors and when the process ends by itself or with
 * `Deno.exit`. What a signal leaves is removed by {@linkcode sweepTemporary}, which the next user of the
 * directory calls.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { syncPath } from "./durable.ts";
import { CloudletError, messageOf } from "./errors.ts";

const PREFIX = ".tmp-";

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

/** A name in a directory that nobody reads; removed when disposed, unless it was moved away. */
export interface Temporary extends Disposable {
  /** Absolute path; nothing exists there at first. */
  readonly path: string;
}

/**
 * Reserves a temporary name inside `directory`, which is created when missing.
 *
 * @param directory where the finished thing will be, so that a rename stays on one file system
 */
export function temporaryIn(directory: string): Temporary {
  Deno.mkdirSync(directory, { recursive: true });
  // The process id lets sweepTemporary() tell what is still being written from what was left.
  const path = resolve(directory, `${PREFIX}${Deno.pid}-${crypto.randomUUID()}`);
  return { path, ...removeAtEnd(path) };
}

/**
 * Writes a whole file so that readers see the old or the new content, never a part, not even after a
 * power cut.
 *
 * @throws {CloudletError} `host` when the file system refuses, such as when it is full
 */
export async function writeFileAtomic(
  path: string,
  content: Uint8Array | string | ReadableStream<Uint8Array>,
): Promise<void> {
  using temporary = temporaryIn(dirname(path));
  try {
    if (typeof content === "string") await Deno.writeTextFile(temporary.path, content);
    else await Deno.writeFile(temporary.path, content);
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

/** Whether a process can still do something: one that is ending, or that waits to be reaped, cannot. */
export function processLives(pid: number): boolean {
  try {
    // proc_pid_stat(5): the name, in parentheses, may hold anything; the state follows it
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    if (/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2))) return false;
    // Its locks go with its descriptors, a moment before it becomes a zombie.
    return !Deno.readDirSync(`/proc/${pid}/fd`)[Symbol.iterator]().next().done;
  } catch (error) {
    return error instanceof Deno.errors.PermissionDenied; // it is another user's
  }
}

/** Removes what killed processes left unfinished in `directory`. */
export function sweepTemporary(directory: string): void {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(directory)];
  } catch {
    return; // no directory, nothing left
  }
  for (const { name } of entries) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : NaN;
    if (pid > 0 && !processLives(pid)) removeQuietly(join(directory, name));
  }
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
 * @param path lock file, created when missing and left in place
 * @param work what to do
 * @param onWait called once when somebody else holds the lock
 */
export async function withLock<T>(
  path: string,
  work: () => Promise<T>,
  onWait?: () => void,
): Promise<T> {
  await Deno.mkdir(dirname(path), { recursive: true });
  using file = await Deno.open(path, { create: true, write: true, read: true });
  if (!(await file.tryLock(true))) {
    onWait?.();
    await file.lock(true);
  }
  try {
    return await work();
  } finally {
    await file.unlock();
  }
}
