/**
 * Debian packages without apt, dpkg, root rights or maintainer scripts: found, verified, fetched and
 * unpacked into a {@linkcode Tree}.
 *
 * ```text
 * <cache>/release/   verified InRelease files       <cache>/pool/<sha256>.deb   fetched packages
 * <cache>/index/     package indexes                <cache>/data/<sha256>.tar   their files
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../../base/dirs.ts";
import { CloudletError } from "../../base/errors.ts";
import { type Progress, silentProgress } from "../../base/progress.ts";
import { findDataMember } from "../archive/ar.ts";
import { DecompressPool } from "../archive/decompress_pool.ts";
import { openSource } from "../archive/source.ts";
import { addTar } from "../archive/unpack.ts";
import type { Tree } from "../tree.ts";
import { fetchFile, type FetchOptions } from "./fetch.ts";
import { debianKeyring } from "./keyring.ts";
import { type DebianPackage, PackageIndex } from "./packages.ts";
import { resolve } from "./resolve.ts";
import { findSources } from "./sources.ts";
import { openIndexes, openRelease, type SuiteContext } from "./suite.ts";

export type { DebianPackage } from "./packages.ts";

/** Options of {@linkcode openDebian}. */
export interface DebianOptions {
  /** URL of the archive; the host's apt sources when absent. CLOUDLET_DEBIAN_MIRROR goes before it. */
  readonly mirror?: string | undefined;
  /** Release name, such as `bookworm`; the host's own when absent. */
  readonly suite?: string | undefined;
  /** Path of the keyring that signs the archive; Debian's own when absent. */
  readonly keyring?: string | undefined;
  /** Directory of the cache; `debian` in cloudlet's own when absent. */
  readonly cache?: string | undefined;
  /** Who is told what happens; nobody when absent. */
  readonly progress?: Progress | undefined;
  /** Ends the work early. */
  readonly signal?: AbortSignal | undefined;
  /** Age in milliseconds up to which the mirror is not asked again; one hour when absent. */
  readonly maxAge?: number | undefined;
  /** How persistent fetching is. */
  readonly fetch?: Omit<FetchOptions, "signal"> | undefined;
}

/** A Debian archive. */
export interface Debian {
  /**
   * The packages needed for `names`, dependencies first; Recommends are left out.
   *
   * @throws {CloudletError} `not-found`, `conflict`
   */
  resolve(names: readonly string[], options?: { readonly essential?: boolean }): DebianPackage[];
  /**
   * Fetches what the cache lacks.
   *
   * @returns path of each package's .deb by the package's name
   * @throws {CloudletError} `unavailable`, `untrusted`, `host`, `cancelled`
   */
  fetch(packages: readonly DebianPackage[]): Promise<Map<string, string>>;
  /**
   * Fetches the packages and adds their files to the tree, in the given order. The files' contents
   * stay in the cache.
   *
   * @throws {CloudletError} `unavailable`, `untrusted`, `host`, `cancelled`
   */
  unpack(packages: readonly DebianPackage[], tree: Tree): Promise<void>;
}

const HOUR = 3_600_000;
const PARALLEL = 8; // fetches at once
const MAX_DATA = 16 * 1024 ** 3; // bytes that one package may have unpacked

/**
 * Opens the Debian archive of the options, the environment or the host.
 *
 * Works without the network when everything needed is cached and young enough; when the mirror is
 * down, with what it said last.
 *
 * @throws {CloudletError} `untrusted`, `unavailable`, `host`, `cancelled`
 */
export async function openDebian(options: DebianOptions = {}): Promise<Debian> {
  const cache = options.cache ?? join(cacheDir(), "debian");
  const progress = options.progress ?? silentProgress;
  const mirror = Deno.env.get("CLOUDLET_DEBIAN_MIRROR") || options.mirror;
  const sources = findSources({ mirror, suite: options.suite });
  const fetch: FetchOptions = { ...options.fetch, signal: options.signal };
  const context: SuiteContext = {
    cache,
    keyring: await debianKeyring(options.keyring),
    maxAge: options.maxAge ?? HOUR,
    progress,
    fetch,
  };
  let pool: DecompressPool | undefined;
  try {
    const files = await Promise.all(sources.map(async (source) => {
      const release = await openRelease(source, context);
      if (release === undefined) return [];
      return await openIndexes(source, release, context, () => pool ??= new DecompressPool());
    }));
    return new Archive(new PackageIndex(files.flat()), cache, progress, fetch);
  } finally {
    pool?.[Symbol.dispose]();
  }
}

class Archive implements Debian {
  readonly #index: PackageIndex;
  readonly #pool: string;
  readonly #data: string;
  readonly #progress: Progress;
  readonly #fetch: FetchOptions;

  constructor(index: PackageIndex, cache: string, progress: Progress, fetch: FetchOptions) {
    this.#index = index;
    this.#pool = join(cache, "pool");
    this.#data = join(cache, "data");
    this.#progress = progress;
    this.#fetch = fetch;
  }

  resolve(names: readonly string[], options: { readonly essential?: boolean } = {}) {
    return resolve(this.#index, names, options);
  }

  async fetch(packages: readonly DebianPackage[]): Promise<Map<string, string>> {
    const paths = new Map<string, string>();
    await this.#fetchEach(packages, (item, path) => {
      paths.set(item.name, path);
      return Promise.resolve();
    });
    return paths;
  }

  /** Fetches in parallel; `use` gets each package as soon as it is there. */
  async #fetchEach(
    packages: readonly DebianPackage[],
    use: (item: DebianPackage, path: string, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const total = packages.reduce((sum, { size }) => sum + size, 0);
    const title = `Fetch ${packages.length} package${packages.length === 1 ? "" : "s"}`;
    using task = this.#progress.task(title, { total, unit: "bytes" });
    const advance = (bytes: number) => task.advance(bytes);
    // The first failure ends the others.
    const failure = new AbortController();
    const { signal: outer } = this.#fetch;
    const signal = outer === undefined ? failure.signal : AbortSignal.any([outer, failure.signal]);
    let first: unknown;
    // The largest first: what is left at the end is small.
    const queue = packages.toSorted((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
    const uses: Promise<void>[] = [];
    const guard = async (work: Promise<unknown>) => {
      try {
        await work;
      } catch (error) {
        first ??= error;
        failure.abort(error);
      }
    };
    const fetcher = async () => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        if (signal.aborted && first !== undefined) return;
        const path = join(this.#pool, `${item.sha256}.deb`);
        const current = item;
        await guard((async () => {
          const options = { ...this.#fetch, signal };
          if (!(await fetchFile(current.url, path, current, options, advance))) {
            throw new CloudletError(`Cannot fetch ${current.url}: the mirror has no such file`, {
              code: "unavailable",
              remedy: "try again later, when the mirror is whole again, or use another mirror",
            });
          }
          task.note(current.name);
          uses.push(guard(use(current, path, signal)));
        })());
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, fetcher));
    await Promise.all(uses);
    if (first !== undefined) throw first;
    task.done();
  }

  async unpack(packages: readonly DebianPackage[], tree: Tree): Promise<void> {
    const archives = new Map<string, string>();
    {
      using pool = new DecompressPool();
      await this.#fetchEach(packages, async (item, path, signal) => {
        archives.set(item.sha256, await this.#decompress(pool, item, path, signal));
      });
    }
    using task = this.#progress.task(`Unpack ${packages.length} packages`, {
      total: packages.length,
      unit: "items",
    });
    for (const item of packages) {
      const name = `the files of ${item.name} ${item.version} (${item.url})`;
      using source = openSource(archives.get(item.sha256)!, name);
      addTar(source, tree);
      task.advance(1);
    }
    task.done();
  }

  /** Path of the package's files as an uncompressed tar archive. */
  async #decompress(
    pool: DecompressPool,
    item: DebianPackage,
    path: string,
    signal: AbortSignal,
  ): Promise<string> {
    const goal = join(this.#data, `${item.sha256}.tar`);
    try {
      if ((await Deno.stat(goal)).isFile) return goal;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    using source = openSource(path, item.url);
    const member = findDataMember(source);
    const request = {
      source: path,
      offset: member.offset,
      size: member.size,
      name: `${member.name} of ${item.url}`,
      limit: MAX_DATA,
    };
    await pool.decompress(request, goal, signal);
    return goal;
  }
}
