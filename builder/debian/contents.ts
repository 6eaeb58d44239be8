/**
 * Which packages have a file: the Contents indexes of a suite (Debian wiki, "RepositoryFormat", "Contents
 * indices"), a line for each file with the packages that have it.
 *
 * ```text
 * <cache>/index/<sha256>   a Contents file, as it was fetched
 * ```
 *
 * @module
 */
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createGunzip } from "node:zlib";
import type { MissingFile } from "../../workload/dependencies/missing.ts";
import { ARCHITECTURE } from "../architecture.ts";
import { fetchFile } from "../fetch_file.ts";
import { indexUrls, type OpenedSuite, type SuiteContext } from "./suite.ts";

/** Longest line that is looked at. */
const MOST_LINE = 64 * 1024;

/** How well a package fits: what is for developers, and has a short name, is what is meant. */
function rank(name: string): number {
  return (name.endsWith("-dev") ? 0 : 1000) + name.length;
}

/** A path of a pattern, as a regular expression of one. */
function matcher(path: string): RegExp {
  return new RegExp(`^${path.split("*").map(RegExp.escape).join("[^/]+")}$`);
}

async function anyOf<T>(all: readonly T[], works: (one: T) => Promise<boolean>): Promise<boolean> {
  for (const one of all) if (await works(one)) return true;
  return false;
}

/**
 * The packages that have files.
 *
 * @returns by the name of the file; those that no package has are left out
 * @throws {CloudletError} `unavailable`, `untrusted`
 */
export async function packagesWith(
  files: readonly MissingFile[],
  suites: readonly OpenedSuite[],
  context: SuiteContext,
): Promise<Map<string, string>> {
  const wanted = files.map(({ name, paths }) => ({ name, patterns: paths.map(matcher) }));
  // A line is looked at closely only when it ends in one of the names.
  const ends = files.map(({ paths }) => paths[0]!.slice(paths[0]!.lastIndexOf("/") + 1));
  const found = new Map<string, string>();
  for (const suite of suites) {
    const { source, release } = suite;
    for (const component of source.components) {
      const name = `${component}/Contents-${ARCHITECTURE}.gz`;
      const expected = release.files.get(name);
      if (expected === undefined) continue;
      const path = join(context.cache, "index", expected.sha256);
      using task = context.progress.task(
        `Look up which packages have ${[...files].map(({ name }) => name).join(", ")}`,
      );
      const urls = indexUrls(suite, name, expected);
      if (!await anyOf(urls, (url) => fetchFile(url, path, expected, context.fetch))) continue;
      const lines = createInterface({ input: createReadStream(path).pipe(createGunzip()) });
      for await (const line of lines) {
        if (line.length > MOST_LINE || !ends.some((end) => line.includes(end))) continue;
        const space = line.search(/\s+\S+$/);
        const file = line.slice(0, space);
        for (const { name, patterns } of wanted) {
          if (!patterns.some((pattern) => pattern.test(file))) continue;
          for (const place of line.slice(space).trim().split(",")) {
            const candidate = place.slice(place.lastIndexOf("/") + 1);
            const before = found.get(name);
            if (before === undefined || rank(candidate) < rank(before)) found.set(name, candidate);
          }
        }
      }
      task.done();
    }
  }
  return found;
}
