/**
 * Debian packages without apt, dpkg, root rights or maintainer scripts: found, verified, fetched and
 * unpacked into a {@linkcode Tree}.
 *
 * ```text
 * <cache>/release/   verified InRelease files       <cache>/pool/<sha256>.deb   fetched packages
 * <cache>/index/     package indexes                <cache>/data/<sha256>.tar   their files
 *                                                   <cache>/control/<sha256>.tar   and metadata
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { noteUse } from "../../base/cache/kinds.ts";
import { cacheDir } from "../../base/dirs.ts";
import { CloudletError } from "../../base/errors.ts";
import { sweepTemporary } from "../../base/files.ts";
import { type Progress, silentProgress } from "../../base/progress.ts";
import { findMembers } from "../archive/ar.ts";
import { isFile } from "../archive/files.ts";
import { DecompressPool } from "../archive/decompress_pool.ts";
import { openSource } from "../archive/source.ts";
import { addTar } from "../archive/unpack.ts";
import type { DpkgDatabase } from "../system/dpkg_database.ts";
import type { Tree } from "../tree.ts";
import { aptProxy, readAptConfig } from "./apt_config.ts";
import type { FetchOptions } from "../fetch.ts";
import { fetchFile } from "../fetch_file.ts";
import { debianKeyring, sourceKeyring } from "./keyring.ts";
import { type DebianPackage, PackageIndex } from "./packages.ts";
import { resolve } from "./resolve.ts";
import type { MissingFile } from "../../workload/dependencies/missing.ts";
import { packagesWith } from "./contents.ts";
import { findSources, isBase, noMirror } from "./sources.ts";
import { type OpenedSuite, openIndexes, openRelease, type SuiteContext } from "./suite.ts";
import type { ImageBudget } from "../limits.ts";
import { limitConcurrency, mapConcurrently } from "../concurrency.ts";

export type { DebianPackage } from "./packages.ts";

/** Options of {@linkcode openDebian}. */
export interface DebianOptions {
  /** URL of the archive; the host's apt sources when absent. CLOUDLET_DEBIAN_MIRROR overrides it. */
  readonly mirror?: string | undefined;
  /** Release name, such as `bookworm`; the host's own when absent. */
  readonly suite?: string | undefined;
  /** URL of the mirror's security archive; beside the mirror when absent, `false` for none. */
  readonly security?: string | false | undefined;
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
   * @param budget what they may take, and its signal ends the work early; no limit when absent
   * @param database where they are noted as installed; nowhere when absent
   * @throws {CloudletError} `unavailable`, `untrusted`, `host`, `cancelled`, `invalid-input` beyond
   *   the limits
   */
  unpack(
    packages: readonly DebianPackage[],
    tree: Tree,
    budget?: ImageBudget,
    database?: DpkgDatabase,
  ): Promise<void>;
  /**
   * Which packages have files; those that none has are left out.
   *
   * @throws {CloudletError} `unavailable`, `untrusted`, `host`, `cancelled`
   */
  packagesWith(files: readonly MissingFile[]): Promise<Map<string, string>>;
}

const HOUR = 3_600_000;
const PARALLEL = 8; // fetches at once
const MAX_DATA = 16 * 1024 ** 3; // bytes that one package may have unpacked
const MAX_CONTROL = 64 * 1024 ** 2; // bytes of its metadata

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
  const sources = findSources({ mirror, suite: options.suite, security: options.security });
  // A mirror that the user set need not be one that apt's proxy knows.
  const aptConfig = mirror === undefined ? readAptConfig("/etc") : new Map<string, string>();
  const fetch: FetchOptions = {
    proxy: (url) => aptProxy(aptConfig, url),
    ...options.fetch,
    signal: options.signal,
  };
  for (const kind of ["release", "index", "data", "control"]) sweepTemporary(join(cache, kind));
  const debianKeys = await debianKeyring({ configured: options.keyring });
  let pool: DecompressPool | undefined;
  let found = false;
  const suites: OpenedSuite[] = [];
  try {
    const files = await mapConcurrently(sources, options.signal, async (source, signal) => {
      const keyring = options.keyring === undefined
        ? await sourceKeyring(source.signedBy, debianKeys)
        : debianKeys;
      if (keyring === undefined) return [];
      const context: SuiteContext = {
        cache,
        maxAge: options.maxAge ?? HOUR,
        progress,
        fetch: { ...fetch, signal },
      };
      const release = await openRelease(source, keyring, context);
      if (release === undefined) return [];
      found ||= isBase(source);
      suites.push({ source, release });
      return await openIndexes(source, release, context, () => pool ??= new DecompressPool());
    });
    if (!found) throw noMirror("none of the host's apt sources is signed by Debian's archive keys");
    return new Archive(new PackageIndex(files.flat()), cache, progress, fetch, suites);
  } finally {
    pool?.[Symbol.dispose]();
  }
}

class Archive implements Debian {
  readonly #index: PackageIndex;
  readonly #pool: string;
  readonly #cache: string;
  readonly #progress: Progress;
  readonly #fetch: FetchOptions;
  readonly #suites: readonly OpenedSuite[];

  constructor(
    index: PackageIndex,
    cache: string,
    progress: Progress,
    fetch: FetchOptions,
    suites: readonly OpenedSuite[],
  ) {
    this.#suites = suites;
    this.#index = index;
    this.#pool = join(cache, "pool");
    this.#cache = cache;
    this.#progress = progress;
    this.#fetch = fetch;
  }

  resolve(names: readonly string[], options: { readonly essential?: boolean } = {}) {
    return resolve(this.#index, names, options);
  }

  async packagesWith(files: readonly MissingFile[]): Promise<Map<string, string>> {
    const context = {
      ...{ cache: this.#cache, maxAge: 0, progress: this.#progress, fetch: this.#fetch },
    };
    return await packagesWith(files, this.#suites, context);
  }

  async fetch(packages: readonly DebianPackage[]): Promise<Map<string, string>> {
    const paths = await this.#fetchEach(packages, (_item, path) => Promise.resolve(path));
    return new Map(packages.map(({ name }, i) => [name, paths[i]!]));
  }

  /** Fetches in parallel; `use` gets each package as soon as it is there. */
  async #fetchEach<Result>(
    packages: readonly DebianPackage[],
    use: (item: DebianPackage, path: string, signal: AbortSignal) => Promise<Result>,
    outer: AbortSignal | undefined = this.#fetch.signal,
  ): Promise<Result[]> {
    const total = packages.reduce((sum, { size }) => sum + size, 0);
    const title = `Fetch ${packages.length} package${packages.length === 1 ? "" : "s"}`;
    using task = this.#progress.task(title, { total, unit: "bytes" });
    const advance = (bytes: number) => task.advance(bytes);
    const limited = limitConcurrency(PARALLEL);
    // The largest first, so that what is under way at the end is small.
    const order = packages.map((item, i) => ({ item, i })).sort((a, b) =>
      b.item.size - a.item.size || a.i - b.i
    );
    const results: Result[] = [];
    await mapConcurrently(order, outer, async ({ item, i }, signal) => {
      const path = join(this.#pool, `${item.sha256}.deb`);
      const options = { ...this.#fetch, signal };
      if (!(await limited(() => fetchFile(item.url, path, item, options, advance)))) {
        throw new CloudletError(`Cannot fetch ${item.url}: the mirror has no such file`, {
          code: "unavailable",
          remedy: "try again later, when the mirror is whole again, or use another mirror",
        });
      }
      task.note(item.name);
      results[i] = await use(item, path, signal);
    });
    task.done();
    return results;
  }

  async unpack(
    packages: readonly DebianPackage[],
    tree: Tree,
    budget?: ImageBudget,
    database?: DpkgDatabase,
  ): Promise<void> {
    try {
      await this.#unpack(packages, tree, budget, database);
    } catch (error) {
      throw budget === undefined ? error : budget.explain(error);
    }
  }

  async #unpack(
    packages: readonly DebianPackage[],
    tree: Tree,
    budget: ImageBudget | undefined,
    database: DpkgDatabase | undefined,
  ): Promise<void> {
    const archives = await this.#archives(packages, budget);
    using task = this.#progress.task(`Unpack ${packages.length} packages`, {
      total: packages.length,
      unit: "items",
    });
    for (const [i, item] of packages.entries()) {
      const name = `the files of ${item.name} ${item.version} (${item.url}, in ${archives[i]})`;
      using source = openSource(archives[i]!, name);
      const paths = addTar(source, tree, budget);
      if (database !== undefined) {
        using control = openSource(this.#archive(item, "control"), `the metadata of ${item.url}`);
        database.add(item, control, paths);
      }
      task.advance(1);
    }
    task.done();
  }

  /** Where a package's files, or its metadata, are as an uncompressed tar archive. */
  #archive(item: DebianPackage, part: "data" | "control" = "data"): string {
    return join(this.#cache, part, `${item.sha256}.tar`);
  }

  /** Fetches and decompresses what the cache lacks. */
  async #archives(
    packages: readonly DebianPackage[],
    budget: ImageBudget | undefined,
  ): Promise<string[]> {
    const missing: DebianPackage[] = [];
    for (const item of packages) {
      const path = this.#archive(item);
      if (!(await isFile(path)) || !(await isFile(this.#archive(item, "control")))) {
        missing.push(item);
        continue;
      }
      budget?.addBytes((await Deno.stat(path)).size);
      await noteUse(path);
      await noteUse(this.#archive(item, "control"));
    }
    if (missing.length > 0) {
      // Those who give up on the archive as a whole give up on this, too.
      const signals = [this.#fetch.signal, budget?.signal].filter((signal) => signal !== undefined);
      using pool = new DecompressPool();
      await this.#fetchEach(
        missing,
        (item, path, signal) => this.#decompress(pool, item, path, budget, signal),
        AbortSignal.any(signals),
      );
    }
    return packages.map((item) => this.#archive(item));
  }

  /** Makes the package's files and its metadata uncompressed tar archives; gives the former's path. */
  async #decompress(
    pool: DecompressPool,
    item: DebianPackage,
    path: string,
    budget: ImageBudget | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    using source = openSource(path, `${item.url} (in ${path})`);
    const members = findMembers(source);
    for (const part of ["control", "data"] as const) { // what is there last means that both are
      const member = members[part];
      const request = {
        source: path,
        offset: member.offset,
        size: member.size,
        name: `${member.name} of ${item.url} (in ${path})`,
        limit: part === "data" ? MAX_DATA : MAX_CONTROL,
        count: part === "data" ? budget?.bytes : undefined,
      };
      const goal = this.#archive(item, part);
      if (!(await isFile(goal))) await pool.decompress(request, goal, signal);
    }
    return this.#archive(item);
  }
}
