/**
 * Fetching files: checked by SHA-256, resumed after interruptions, safe with several processes at
 * once.
 *
 * ```text
 * <goal>        complete and checked
 * <goal>.part   what has arrived so far; locked (flock) by whoever is fetching it
 * ```
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { dirname } from "node:path";
import { noteUse } from "../base/cache/kinds.ts";
import { CloudletError } from "../base/errors.ts";
import { diskError, waitForLock } from "../base/files.ts";
import { isFile } from "./archive/files.ts";

import {
  cancelled,
  type FetchOptions,
  persistently,
  request,
  tooLarge,
  unavailable,
} from "./fetch.ts";

/** What a file must be. */
export interface Expected {
  /** Length in bytes. */
  readonly size: number;
  /** SHA-256 in hex. */
  readonly sha256: string;
}

/** Opens and locks the file with what has arrived so far; undefined when `goal` was made meanwhile. */
async function openPart(
  goal: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<Deno.FsFile | undefined> {
  const path = `${goal}.part`;
  for (;;) {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    try {
      await waitForLock(file, signal);
      // Whoever had the lock may have renamed or removed the file that is open here.
      const [here, there] = [await file.stat(), await Deno.stat(path).catch(() => undefined)];
      const named = there !== undefined && here.ino === there.ino && here.dev === there.dev;
      const finished = await isFile(goal, size);
      if (named && !finished) return file;
      if (named) await Deno.remove(path); // opening made it after the rename
      file.close();
      if (finished) return undefined;
    } catch (error) {
      file.close();
      throw error;
    }
  }
}

/** A file that is growing, and the digest of what it has. */
class Part {
  size = 0;
  #hash: Hash = createHash("sha256");
  constructor(readonly file: Deno.FsFile) {}

  /** Takes over what an earlier run left, unless it is more than there should be. */
  async takeOver(limit: number): Promise<void> {
    if ((await this.file.stat()).size > limit) return await this.restart();
    const buffer = new Uint8Array(256 * 1024);
    for (let n = await this.file.read(buffer); n !== null; n = await this.file.read(buffer)) {
      this.#hash.update(buffer.subarray(0, n));
      this.size += n;
    }
  }

  async restart(): Promise<void> {
    await this.file.truncate(0);
    await this.file.seek(0, Deno.SeekMode.Start);
    this.size = 0;
    this.#hash = createHash("sha256");
  }

  async append(chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.length;) done += await this.file.write(chunk.subarray(done));
    this.#hash.update(chunk);
    this.size += chunk.length;
  }

  digest(): string {
    return this.#hash.copy().digest("hex");
  }
}

/**
 * Fetches a file. Does nothing when `goal` is there with the right size, since nothing else than a
 * checked file is ever given that name.
 *
 * @param url where it is; `http:`, `https:` or `file:`
 * @param goal path of the finished file
 * @param expected what it must be
 * @param advance told how many bytes have come in
 * @returns false when the server has no such file
 * @throws {CloudletError} `unavailable`, `untrusted` when it is not what was expected, `host` when the
 *   disk is full, `cancelled`
 */
export async function fetchFile(
  url: string,
  goal: string,
  expected: Expected,
  options: FetchOptions = {},
  advance: (bytes: number) => void = () => {},
): Promise<boolean> {
  if (await isFile(goal, expected.size)) {
    await noteUse(goal);
    advance(expected.size);
    return true;
  }
  try {
    await Deno.mkdir(dirname(goal), { recursive: true });
    const { signal } = options;
    using file = await openPart(goal, expected.size, signal).catch((error) => {
      throw signal?.aborted ? cancelled(url, error) : error;
    });
    if (file === undefined) {
      advance(expected.size);
      return true;
    }
    const part = new Part(file);
    try {
      return await complete(url, part, goal, expected, options, advance);
    } catch (error) {
      // A full disk is not left full of what is of no use to anybody.
      if (isFull(error)) await part.restart();
      throw error;
    } finally {
      // What may be gone on with stays. After a rename, this name is nobody's or another's.
      if (part.size === 0) await Deno.remove(`${goal}.part`).catch(() => {});
    }
  } catch (cause) {
    throw diskError(`Cannot write ${goal}`, cause);
  }
}

function isFull(error: unknown): boolean {
  return error instanceof Error && "code" in error &&
    (error.code === "ENOSPC" || error.code === "EDQUOT");
}

async function complete(
  url: string,
  part: Part,
  goal: string,
  expected: Expected,
  options: FetchOptions,
  advance: (bytes: number) => void,
): Promise<boolean> {
  await part.takeOver(expected.size);
  let resumed = part.size > 0;
  advance(part.size);
  while (part.size < expected.size || part.digest() !== expected.sha256) {
    if (part.size === expected.size) {
      const found = part.digest();
      advance(-part.size);
      await part.restart();
      if (!resumed) {
        throw new CloudletError(
          `Cannot trust ${url}: its SHA-256 is ${found}, expected is ${expected.sha256}`,
          { code: "untrusted", remedy: "try again later, or use another server" },
        );
      }
      resumed = false; // what was there before may be what is wrong: once more from the start
    }
    const exists = await persistently(
      url,
      options,
      () => receive(url, part, expected, options, advance),
      () => part.size,
    );
    if (!exists) return false;
  }
  await part.file.sync(); // its name says what it holds, also after a power cut
  await Deno.rename(`${goal}.part`, goal);
  return true;
}

function receive(
  url: string,
  part: Part,
  expected: Expected,
  options: FetchOptions,
  advance: (bytes: number) => void,
): Promise<boolean> {
  return request(url, part.size, options, async ({ missing, start, chunks }) => {
    if (missing) return false;
    if (start !== part.size) {
      advance(-part.size);
      await part.restart();
    }
    for await (const chunk of chunks) {
      if (part.size + chunk.length > expected.size) {
        await part.restart();
        throw tooLarge(url, expected.size);
      }
      await part.append(chunk);
      advance(chunk.length);
    }
    if (part.size < expected.size) {
      throw unavailable(url, `it ended after ${part.size} of ${expected.size} bytes`, options);
    }
    return true;
  });
}
