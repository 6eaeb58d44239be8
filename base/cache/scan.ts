/**
 * What is in the cache, and what it takes on the disk: allocated blocks, and what has several names
 * once, as du(1) counts.
 *
 * @module
 */
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { readAbout } from "./about.ts";
import { KINDS } from "./kinds.ts";

/** Something that can be removed. */
export interface Entry {
  /** Path below the cache: `<kind>/<key>` or `<kind>/<part>/<file>`. */
  readonly id: string;
  readonly kind: string;
  readonly path: string;
  readonly form: "directories" | "files";
  /** Bytes on the disk. */
  readonly bytes: number;
  /** When it was used last, in milliseconds since 1970. */
  readonly used: number;
  /** Ids of entries without which it is of no use. */
  readonly needs: readonly string[];
  /** Whether it serves one program only. */
  readonly ofProgram: boolean;
}

/** A name of an entry: `.name-<name>`. */
export interface Name {
  readonly path: string;
  /** What it is called, such as `python`. */
  readonly name: string;
  /** Id of the entry. */
  readonly id: string;
}

/** What is in a cache. */
export interface Contents {
  readonly root: string;
  readonly entries: readonly Entry[];
  readonly names: readonly Name[];
  /** Files of locks; most are left by processes that were killed. */
  readonly locks: readonly string[];
  /** Bytes on the disk of what is being made or removed. */
  readonly unfinished: number;
  /** Bytes on the disk of directories, names, locks and leases. */
  readonly overhead: number;
  /** Paths of what no version of cloudlet makes there, with their bytes. */
  readonly unknown: readonly { readonly path: string; readonly bytes: number }[];
  /** Bytes on the disk of all of it. */
  readonly total: number;
}

const BLOCK = 512; // bytes: stat(2), st_blocks
/** After so many milliseconds others get a turn. */
const SLICE = 8;

/** What cloudlet keeps beside the kinds. */
const KEPT = new Set(["leases", "kernel-build.log"]);

/** Looks at all of a cache; one that is not there is empty. Links are not followed. */
export async function scanCache(root: string): Promise<Contents> {
  const scan = new Scan(root);
  await scan.all();
  return scan;
}

class Scan implements Contents {
  readonly entries: Entry[] = [];
  readonly names: Name[] = [];
  readonly locks: string[] = [];
  readonly unknown: { path: string; bytes: number }[] = [];
  unfinished = 0;
  overhead = 0;
  total = 0;
  /** What has several names, and was counted. */
  readonly #counted = new Set<string>();
  #pause = performance.now() + SLICE;

  constructor(readonly root: string) {}

  async all(): Promise<void> {
    this.overhead += this.#bytes(lstat(this.root));
    for (const name of list(this.root)) {
      const path = join(this.root, name);
      const info = lstat(path);
      const kind = KINDS.find((kind) => kind.name === name);
      if (kind !== undefined && info?.isDirectory) {
        this.overhead += this.#bytes(info);
        await this.#kind(path, kind.name, kind.form);
      } else if (!(await this.#isOurs(path, name))) {
        if (KEPT.has(name)) this.overhead += await this.#below(path);
        else this.unknown.push({ path, bytes: await this.#below(path) });
      }
    }
  }

  async #kind(path: string, kind: string, form: Entry["form"]): Promise<void> {
    for (const name of list(path)) {
      const child = join(path, name);
      if (await this.#isOurs(child, name)) continue;
      const info = lstat(child);
      if (info === undefined) continue;
      if (form === "files" && info.isFile) {
        this.#file(child, kind, info);
      } else if (form === "files" && info.isDirectory) {
        this.overhead += this.#bytes(info);
        await this.#files(child, kind);
      } else if (name.startsWith(".name-") && info.isFile) {
        this.overhead += this.#bytes(info);
        this.#name(child, name, kind);
      } else if (form === "directories" && info.isDirectory && !name.startsWith(".")) {
        const { needs, ofProgram } = readAbout(child);
        this.entries.push({
          ...{ id: `${kind}/${name}`, kind, path: child, form, needs },
          bytes: await this.#below(child),
          used: lastUse(info, form),
          ofProgram: ofProgram || kind === "workloads",
        });
      } else {
        this.unknown.push({ path: child, bytes: await this.#below(child) });
      }
    }
  }

  async #files(path: string, kind: string): Promise<void> {
    for (const name of list(path)) {
      const child = join(path, name);
      if (await this.#isOurs(child, name)) continue;
      const info = lstat(child);
      if (info?.isFile) this.#file(child, kind, info);
      else if (info !== undefined) {
        this.unknown.push({ path: child, bytes: await this.#below(child) });
      }
      await this.#turn();
    }
  }

  #file(path: string, kind: string, info: Deno.FileInfo): void {
    this.entries.push({
      ...{ id: path.slice(this.root.length + 1), kind, path, form: "files" },
      bytes: this.#bytes(info),
      used: lastUse(info, "files"),
      ...{ needs: [], ofProgram: false },
    });
  }

  #name(path: string, file: string, kind: string): void {
    let key: string;
    try {
      key = Deno.readTextFileSync(path).trim();
    } catch {
      return; // replaced meanwhile
    }
    const name = file.replace(/^\.name-/, "").replace(/-[0-9a-f]{32}$/, "");
    this.names.push({ path, name, id: `${kind}/${key}` });
  }

  /** Locks and what is unfinished, wherever they are. */
  async #isOurs(path: string, name: string): Promise<boolean> {
    if (name.startsWith(".tmp-of-")) this.unfinished += await this.#below(path);
    else if (/^\..*\.lock$/.test(name)) {
      this.overhead += this.#bytes(lstat(path));
      this.locks.push(path);
    } else return false;
    return true;
  }

  /** Bytes of a path and all below it. */
  async #below(path: string): Promise<number> {
    let sum = 0;
    const pending = [path];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const info = lstat(next);
      sum += this.#bytes(info);
      if (info?.isDirectory) { for (const name of list(next)) pending.push(join(next, name)); }
      await this.#turn();
    }
    return sum;
  }

  #bytes(info: Deno.FileInfo | undefined): number {
    if (info === undefined) return 0;
    if ((info.nlink ?? 1) > 1 && !info.isDirectory) {
      const id = `${info.dev}:${info.ino}`;
      if (this.#counted.has(id)) return 0;
      this.#counted.add(id);
    }
    const bytes = (info.blocks ?? 0) * BLOCK;
    this.total += bytes;
    return bytes;
  }

  /**
   * Lets others go on from time to time. All else is synchronous: with a promise for each file, it
   * would take ten times as long.
   */
  async #turn(): Promise<void> {
    if (performance.now() < this.#pause) return;
    await nextTurn();
    this.#pause = performance.now() + SLICE;
  }
}

/**
 * When an entry was used last, in milliseconds since 1970. Reading a file sets its time of access;
 * that of a directory is set by whoever lists it.
 */
export function lastUse({ atime, mtime }: Deno.FileInfo, form: Entry["form"]): number {
  const modified = mtime?.getTime() ?? 0;
  return form === "files" ? Math.max(atime?.getTime() ?? 0, modified) : modified;
}

/** Of what is gone by now, or cannot be looked at, nothing. */
function lstat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch {
    return undefined;
  }
}

function list(path: string): string[] {
  try {
    return Array.from(Deno.readDirSync(path), ({ name }) => name);
  } catch {
    return [];
  }
}
