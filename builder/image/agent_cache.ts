/**
 * The agent's bundle, made anew only when one of its sources changed: a run need not start esbuild to
 * find that nothing did.
 *
 * ```text
 * <cache>/agents/<digest>.js      a bundle
 *                .sources-<key>   which bundle a checkout's sources made, and the digest of each
 * ```
 *
 * @module
 */
import { join } from "node:path";
import type { AgentBundle } from "./agent_bundle.ts";
import { cacheDir } from "../../base/dirs.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { cacheKey, sha256 } from "../../base/store.ts";

/** What is remembered of a bundle. */
interface Recorded {
  /** SHA-256 of its code, in hex. */
  readonly sha256: string;
  /** SHA-256 in hex of each source file of the checkout, by URL. */
  readonly sources: Readonly<Record<string, string>>;
  /** What the imports of packages were resolved to, by specifier. */
  readonly resolved: Readonly<Record<string, string>>;
}

/** Where bundles are kept, and how they are made. */
export interface AgentCacheOptions {
  /** Absolute directory; made when missing. */
  readonly directory: string;
  /** The agent's main module. */
  readonly entry: URL;
  /** Makes the bundle. */
  readonly bundle: (entry: URL) => Promise<Pick<AgentBundle, keyof Recorded | "code">>;
  /** The modules that do so. */
  readonly bundlers: readonly URL[];
}

/** See the module. */
export class AgentCache {
  readonly #options: AgentCacheOptions;

  /** @param options other than the user's cache and this checkout, for tests */
  constructor(options: Partial<AgentCacheOptions> = {}) {
    this.#options = {
      directory: join(cacheDir(), "agents"),
      entry: new URL("../../agent/main.ts", import.meta.url),
      bundle: async (entry) => (await import("./agent_bundle.ts")).bundleAgent(entry),
      bundlers: [new URL("./agent_bundle.ts", import.meta.url)],
      ...options,
    };
  }

  /**
   * SHA-256 of the agent's bundle, in hex: what names the agent in keys.
   *
   * @throws {CloudletError} whatever bundling throws
   */
  async digest(): Promise<string> {
    return await this.#recorded() ?? (await this.#make()).sha256;
  }

  /**
   * The bundle.
   *
   * @throws {CloudletError} whatever bundling throws
   */
  async load(): Promise<{ readonly code: Uint8Array; readonly sha256: string }> {
    const digest = await this.#recorded();
    if (digest === undefined) return await this.#make();
    const code = await readIfAny(this.#path(digest));
    if (code === undefined || sha256(code) !== digest) return await this.#make();
    return { code, sha256: digest };
  }

  #path(digest: string): string {
    return join(this.#options.directory, `${digest}.js`);
  }

  /** Where the sources of this checkout are remembered. */
  get #record(): string {
    return join(this.#options.directory, `.sources-${cacheKey(this.#options.entry.href)}`);
  }

  /** The digest of the last bundle, when it would be the same now. */
  async #recorded(): Promise<string | undefined> {
    const text = await readTextIfAny(this.#record);
    if (text === undefined) return undefined;
    try {
      const { sha256: digest, sources, resolved }: Recorded = JSON.parse(text);
      for (const [specifier, url] of Object.entries(resolved)) {
        if (import.meta.resolve(specifier) !== url) return undefined;
      }
      // Synchronously: some forty small files take a few milliseconds less.
      const same = Object.entries(sources).every(([url, digest]) =>
        sha256(Deno.readFileSync(new URL(url))) === digest
      );
      return same ? digest : undefined;
    } catch {
      return undefined; // a source is gone, a package cannot be found, the record is damaged
    }
  }

  async #make(): Promise<{ readonly code: Uint8Array; readonly sha256: string }> {
    const { entry, bundlers } = this.#options;
    const root = new URL("../", entry).href;
    const digests: Record<string, string> = {};
    // What came by the network or is of a package never changes: its URL has the version in it.
    for (const url of bundlers) {
      if (url.protocol === "file:") digests[url.href] = sha256(await Deno.readFile(url));
    }
    const { code, sha256: digest, sources, resolved } = await this.#options.bundle(entry);
    for (const [url, digest] of sources) {
      if (url.startsWith("file:") && url.startsWith(root)) digests[url] = digest;
    }
    const record: Recorded = {
      sha256: digest,
      sources: digests,
      resolved: { ...Object.fromEntries(resolved), esbuild: import.meta.resolve("esbuild") },
    };
    await writeFileAtomic(this.#path(digest), code);
    await writeFileAtomic(this.#record, JSON.stringify(record));
    return { code, sha256: digest };
  }
}

async function readIfAny(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
