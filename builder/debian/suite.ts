/**
 * A suite of a mirror: its verified release and its package indexes, both cached.
 *
 * ```text
 * <cache>/release/<key>.json     a verified InRelease, and when the mirror was asked last
 * <cache>/index/<sha256>         a Packages file, decompressed, by the digest of its compressed form
 * ```
 *
 * @module
 */
import { dirname, join } from "node:path";
import { ARCHITECTURE } from "../architecture.ts";
import { noteUse } from "../../base/cache/kinds.ts";
import { CloudletError } from "../../base/errors.ts";
import { temporaryIn, withLock, writeFileAtomic } from "../../base/files.ts";
import { cacheKey, sha256 } from "../../base/store.ts";
import type { Progress } from "../../base/progress.ts";
import { isFile } from "../archive/files.ts";
import type { DecompressPool } from "../archive/decompress_pool.ts";
import { fetchBytes, type FetchOptions } from "../fetch.ts";
import { type Expected, fetchFile } from "../fetch_file.ts";
import type { IndexFile } from "./packages.ts";
import {
  checkDate,
  checkSuite,
  checkValidity,
  isUnknownSigner,
  type Keyring,
  parseRelease,
  type Release,
  verifyInRelease,
} from "./release.ts";
import type { Source } from "./sources.ts";

/** What working with a suite needs. */
export interface SuiteContext {
  /** Directory of the cache. */
  readonly cache: string;
  /** Age in milliseconds up to which a cached release is taken without asking the mirror. */
  readonly maxAge: number;
  readonly progress: Progress;
  readonly fetch: FetchOptions;
}

interface CachedRelease {
  readonly url: string;
  /** When the mirror was asked, in milliseconds since 1970. */
  readonly checked: number;
  /** The signed text; null when the mirror has no such suite. */
  readonly text: string | null;
}

const MAX_INRELEASE = 16 * 1024 * 1024; // bytes; Debian's has 150 kB
const MAX_INDEX = 1024 ** 3; // bytes; Debian's has 50 MB

async function readCached(path: string, url: string): Promise<CachedRelease | undefined> {
  let value: Partial<CachedRelease> | null;
  try {
    value = JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
  const { checked, text } = value ?? {};
  if (value?.url !== url || typeof checked !== "number") return undefined;
  if (typeof text !== "string" && text !== null) return undefined;
  return { url, checked, text };
}

/**
 * The verified release of a source.
 *
 * @param keyring keys that must sign it
 * @returns undefined when the mirror lacks an optional suite, or a doubtful one is not Debian's
 * @throws {CloudletError} `untrusted`, `unavailable`
 */
export async function openRelease(
  source: Source,
  keyring: Keyring,
  context: SuiteContext,
): Promise<Release | undefined> {
  const url = `${source.uri}dists/${source.suite}/InRelease`;
  // With other keys, the same file may not be trusted.
  const key = cacheKey([url, ...keyring.parts.map(sha256)]);
  const path = join(context.cache, "release", `${key}.json`);
  const accept = (text: string | null) => {
    if (text === null) return undefined;
    const release = parseRelease(text, url);
    checkSuite(release, source.suite);
    checkDate(release, source.maxFuture);
    if (source.checkValidUntil) checkValidity(release);
    return release;
  };
  const cached = usable(await readCached(path, url), source);
  const now = Date.now();
  if (
    cached !== undefined && now >= cached.checked && now - cached.checked < context.maxAge
  ) {
    return accept(cached.text);
  }
  let bytes: Uint8Array | undefined;
  try {
    bytes = await fetchBytes(url, MAX_INRELEASE, context.fetch);
    // What a mirror had before is no more optional.
    if (bytes === undefined && (!source.optional || typeof cached?.text === "string")) {
      throw new CloudletError(`Cannot fetch ${url}: the mirror has no such file`, {
        code: "unavailable",
        remedy: source.suite.endsWith("-security")
          ? "set [debian] security in the settings to the URL of the security archive, or to " +
            "false to do without security updates"
          : "check the mirror's URL and the suite in the settings or the host's apt sources",
      });
    }
  } catch (error) {
    const down = error instanceof CloudletError && error.code === "unavailable";
    if (!down || cached === undefined) throw error;
    const when = new Date(cached.checked).toISOString();
    context.progress.info(`${error.message}; going on with what it said at ${when}`);
    return accept(cached.text);
  }
  if (bytes === undefined) {
    context.progress.info(`${url} does not exist: going on without ${source.suite}`);
    await remember(path, { url, checked: now, text: null });
    return undefined;
  }
  const text = await verify(bytes, url, source, keyring, context.progress);
  if (text === undefined) return undefined;
  const release = accept(text)!;
  const before = cached?.text ?? null;
  if (before !== null && parseRelease(before, url).date > release.date) {
    // An older release is no forgery, but it would take security updates back.
    context.progress.info(`${url} is older than what the mirror had before: keeping that`);
    await remember(path, { url, checked: now, text: before });
    return accept(before);
  }
  await remember(path, { url, checked: now, text });
  return release;
}

/**
 * What is cached, unless it may not be used: a null where the suite is needed, or a release of another
 * suite or of the future, which would keep newer ones away.
 */
function usable(cached: CachedRelease | undefined, source: Source): CachedRelease | undefined {
  if (cached === undefined) return undefined;
  if (cached.text === null) return source.optional ? cached : undefined;
  try {
    const release = parseRelease(cached.text, cached.url);
    checkSuite(release, source.suite);
    checkDate(release, source.maxFuture);
    return cached;
  } catch (error) {
    if (error instanceof CloudletError) return undefined;
    throw error;
  }
}

async function remember(path: string, release: CachedRelease): Promise<void> {
  await writeFileAtomic(path, JSON.stringify(release));
}

async function verify(
  bytes: Uint8Array,
  url: string,
  source: Source,
  keyring: Keyring,
  progress: Progress,
): Promise<string | undefined> {
  const text = new TextDecoder().decode(bytes);
  try {
    return await verifyInRelease(text, url, keyring);
  } catch (error) {
    // What is not signed by Debian and does not claim to be Debian's is somebody else's archive.
    const claim = /^Origin: *(.*)$/m.exec(text)?.[1];
    if (!source.doubtful || !isUnknownSigner(error) || claim === undefined || claim === "Debian") {
      throw error;
    }
    progress.info(`${source.uri} is the archive of ${claim}: leaving it alone`);
    return undefined;
  }
}

/**
 * The package indexes of a suite, fetched and checked.
 *
 * @throws {CloudletError} `untrusted`, `unavailable`, `not-found` for a component that is not there
 */
export async function openIndexes(
  source: Source,
  release: Release,
  context: SuiteContext,
  pool: () => DecompressPool,
): Promise<IndexFile[]> {
  const architectures = release.allIncluded ? [ARCHITECTURE] : [ARCHITECTURE, "all"];
  const wanted = source.components.flatMap((component) =>
    architectures.map((architecture) => `${component}/binary-${architecture}`)
  );
  return await Promise.all(wanted.map(async (directory) => {
    const path = await openIndex(source, release, directory, context, pool);
    return { bytes: await Deno.readFile(path), base: source.uri, name: path };
  }));
}

/** A suite whose release is verified. */
export interface OpenedSuite {
  readonly source: Source;
  readonly release: Release;
}

/**
 * Where an index of a release can be had, the best first: by its digest it stays for a while when the mirror
 * has a newer one.
 *
 * @param name relative to the InRelease
 */
export function indexUrls(
  { source, release }: OpenedSuite,
  name: string,
  { sha256 }: Expected,
): string[] {
  const suite = `${source.uri}dists/${source.suite}/`;
  const byHash = `${suite}${dirname(name)}/by-hash/SHA256/${sha256}`;
  return release.byHash ? [byHash, `${suite}${name}`] : [`${suite}${name}`];
}

async function openIndex(
  source: Source,
  release: Release,
  directory: string,
  context: SuiteContext,
  pool: () => DecompressPool,
): Promise<string> {
  for (const extension of [".xz", ".gz", ""]) {
    const name = `${directory}/Packages${extension}`;
    const expected = release.files.get(name);
    if (expected === undefined) continue;
    const goal = join(context.cache, "index", expected.sha256);
    if (await isFile(goal)) {
      await noteUse(goal);
      return goal;
    }
    // The lock is by content, as the file is: components can have equal indexes.
    const lock = join(context.cache, "index", `.${expected.sha256}.lock`);
    const made = await withLock(lock, async () => {
      if (await isFile(goal)) return true;
      using task = context.progress.task(`Fetch the package index of ${source.suite}`, {
        total: expected.size,
        unit: "bytes",
      });
      const advance = (bytes: number) => task.advance(bytes);
      for (const url of indexUrls({ source, release }, name, expected)) {
        const packed = `${goal}${extension}.packed`;
        if (!(await fetchFile(url, packed, expected, context.fetch, advance))) continue;
        const plain = release.files.get(`${directory}/Packages`);
        await unpackIndex(url, packed, goal, expected, plain, pool(), context.fetch.signal);
        task.done();
        return true;
      }
      return false;
    });
    if (made) return goal;
  }
  const known = [...release.files.keys()].some((name) => name.startsWith(`${directory}/`));
  throw new CloudletError(
    `Cannot fetch the package index ${directory} of ${release.url}: ` +
      (known ? "the mirror lacks the file" : "the suite has no such component or architecture"),
    {
      code: known ? "unavailable" : "not-found",
      remedy: "correct the host's apt sources, or use another mirror",
    },
  );
}

async function unpackIndex(
  url: string,
  packed: string,
  goal: string,
  { size }: Expected,
  plain: Expected | undefined,
  pool: DecompressPool,
  signal: AbortSignal | undefined,
): Promise<void> {
  using temporary = temporaryIn(dirname(goal));
  const limit = plain?.size ?? MAX_INDEX;
  const request = { source: packed, size, name: url, limit };
  const unpacked = await pool.decompress(request, temporary.path, signal);
  if (plain !== undefined && plain.size !== unpacked) {
    throw new CloudletError(
      `Cannot trust ${url}: it unpacks to ${unpacked} bytes, expected are ${plain.size}`,
      { code: "untrusted", remedy: "use another mirror" },
    );
  }
  await Deno.rename(temporary.path, goal);
  await Deno.remove(packed);
}
