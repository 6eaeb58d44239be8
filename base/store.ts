/**
 * A cache of directories, each named by the hash of what went into it.
 *
 * ```text
 * <root>/<key>/            a finished entry, on the disk as a whole; never changed
 * <root>/.tmp-of-<id>/     an entry being made
 * <root>/.<key>.lock       held by whoever makes the entry
 * ```
 *
 * Entries that nobody uses are removed when the cache is full ({@link ./cache/kinds.ts} has all that
 * is in it): an entry that was found may be gone, unless it is leased.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { type Lease, lease } from "./cache/lease.ts";
import { syncTree } from "./durable.ts";
import { CloudletError } from "./errors.ts";
import { diskError, sweepTemporary, temporaryIn, withLock } from "./files.ts";

/** Something that a key can be made of; object members are sorted, so their order is no matter. */
export type KeyPart =
  | string
  | number
  | boolean
  | null
  | readonly KeyPart[]
  | { readonly [name: string]: KeyPart };

function canonical(part: KeyPart): string {
  if (Array.isArray(part)) return `[${part.map(canonical).join(",")}]`;
  if (part !== null && typeof part === "object") {
    const members = Object.entries(part).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    return `{${members.map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`).join(",")}}`;
  }
  return JSON.stringify(part);
}

/** What tells a file from others. */
export interface KeyedFile {
  readonly path: string;
  readonly mode: number;
  readonly content: Uint8Array;
  /** Where it leads, when it is a symbolic link; otherwise absent or empty. */
  readonly target?: string | undefined;
  /** Whether it is a directory. */
  readonly directory?: boolean | undefined;
}

/** Files as a part of a key. */
export function filesKey(files: readonly KeyedFile[]): KeyPart {
  return files.map(({ path, mode, content, target, directory }) => {
    if (target) return { path, target };
    if (directory) return { path };
    return [path, mode, sha256(content)];
  });
}

/** SHA-256 in hexadecimal digits, of a text's UTF-8. */
export function sha256(content: Uint8Array | string): string {
  return createHash("sha256").update(content).digest("hex");
}

/** SHA-256 of a canonical form of `parts`, in hex, cut to 32 digits. */
export function cacheKey(parts: KeyPart): string {
  return sha256(canonical(parts)).slice(0, 32);
}

/** An entry is not what it was when it was made. */
export class DamagedEntry extends CloudletError {
  /**
   * @param what the entry, for the message
   * @param why what is wrong with it
   */
  constructor(what: string, why: string, options: { remedy?: string; cause?: unknown } = {}) {
    const { remedy = "remove it: it is made again when it is needed", cause } = options;
    super(`Cannot use ${what}: ${why}`, { code: "untrusted", remedy, cause });
  }
}

// As cacheKey() makes them, and other plain names; never a path, and never the name of a lock.
const KEY = /^[0-9A-Za-z_][0-9A-Za-z_.+~-]*$/;

/** Entries of one kind; safe with several processes at once. */
export class Store {
  /** @param root the directory of this kind of entry */
  constructor(readonly root: string) {}

  /** Path of the entry, or undefined when it was not made yet. */
  async get(key: string): Promise<string | undefined> {
    const path = this.#path(key);
    try {
      return (await Deno.stat(path)).isDirectory ? path : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /**
   * Has an entry stay until the lease is disposed, or this process ends; notes that it is used now.
   *
   * @returns undefined when there is no such entry
   */
  async lease(key: string, signal?: AbortSignal): Promise<Lease | undefined> {
    return await lease(this.#path(key), signal);
  }

  /**
   * What `open` makes of an entry. A damaged one is removed, so that it can be made again.
   *
   * @param open throws {@linkcode DamagedEntry} for such; only then it is removed
   * @returns undefined when there is no entry, or no good one
   */
  async read<T>(key: string, open: (path: string) => Promise<T>): Promise<T | undefined> {
    const path = await this.get(key);
    if (path === undefined) return undefined;
    try {
      return await open(path);
    } catch (error) {
      if (!(error instanceof DamagedEntry)) throw error;
    }
    return await withLock(this.#lock(key), async () => {
      try {
        return await open(path); // which somebody may have made again meanwhile
      } catch (error) {
        if (!(error instanceof DamagedEntry)) throw error;
        await this.remove(key);
        return undefined;
      }
    });
  }

  /**
   * Path of the entry, made by `make` when it is missing. Of several callers, in this process or
   * others, one does the work and the rest wait for it.
   *
   * @param key from {@linkcode cacheKey}
   * @param make fills the empty directory that it is given
   * @param onWait called once when somebody else is making the entry
   * @param signal ends the wait for somebody else; its reason is thrown
   */
  async getOrMake(
    key: string,
    make: (directory: string) => Promise<void>,
    onWait?: () => void,
    signal?: AbortSignal,
  ): Promise<string> {
    const existing = await this.get(key);
    if (existing !== undefined) return existing;
    await withLock(
      this.#lock(key),
      async () => {
        if (await this.get(key) === undefined) await this.#make(key, make);
      },
      onWait,
      signal,
    );
    return this.#path(key);
  }

  /**
   * Makes an entry in place of the one that is there, which stays when `make` fails. Readers that
   * have its files open keep them.
   *
   * @param key from {@linkcode cacheKey}
   * @param make fills the empty directory that it is given
   */
  async replace(key: string, make: (directory: string) => Promise<void>): Promise<void> {
    await withLock(this.#lock(key), () => this.#make(key, make));
  }

  /** Makes an entry while the lock of its key is held. */
  async #make(key: string, make: (directory: string) => Promise<void>): Promise<void> {
    const goal = this.#path(key);
    sweepTemporary(this.root);
    using temporary = temporaryIn(this.root);
    try {
      await Deno.mkdir(temporary.path);
      await make(temporary.path);
      await syncTree(temporary.path);
      await this.remove(key); // rename(2) takes no place that is not empty
      await Deno.rename(temporary.path, goal);
    } catch (cause) {
      throw diskError(`Cannot make the cache entry ${goal}`, cause);
    }
  }

  /** Keys of the finished entries, sorted. */
  async keys(): Promise<string[]> {
    const keys: string[] = [];
    try {
      for await (const entry of Deno.readDir(this.root)) {
        if (entry.isDirectory && !entry.name.startsWith(".")) keys.push(entry.name);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return keys.sort();
  }

  /** Removes an entry; readers that have its files open keep them. Does nothing when missing. */
  async remove(key: string): Promise<void> {
    const path = this.#path(key);
    using temporary = temporaryIn(this.root); // renamed first: never half there
    try {
      await Deno.rename(path, temporary.path);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  #lock(key: string): string {
    return join(this.root, `.${key}.lock`);
  }

  #path(key: string): string {
    if (!KEY.test(key)) {
      throw new CloudletError(`Cannot look up ${JSON.stringify(key)} in the cache: it is no key`, {
        code: "invalid-input",
      });
    }
    return join(this.root, key);
  }
}
