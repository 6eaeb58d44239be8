/**
 * The project around a source file: `cloudlet run project/cli.py` does what `python project/cli.py`
 * does, which finds the modules beside the file.
 *
 * What is sent is the first of these that fits:
 *
 * 1. The project that the file is in: the nearest directory with a file that marks one in the file's
 *    language (such as `pyproject.toml`), or with a `.cloudletignore`. The top of a git repository
 *    ends the search.
 * 2. The directory of the file, when it is small: at most 256 files and 1 MiB. Hidden files are left
 *    out.
 * 3. The file alone.
 *
 * A home directory, what is above it, and the directories for temporary files are never sent.
 *
 * The program's directory is the current one of the caller, as far as that is sent: it is a
 * directory of the project, or one that the project is in. Otherwise it is the project's top.
 *
 * @module
 */
import { basename, dirname, join, relative } from "node:path";
import type { LanguageName } from "../../workload/languages.ts";
import { IGNORE_FILE } from "./ignore_rules.ts";
import {
  listProject,
  mebibytes,
  type ProjectLimits,
  type ProjectListing,
  TooLarge,
} from "./project_files.ts";
import { isWithin } from "./project_links.ts";

/** Files that mark a project's top, by language. */
const MARKS: Readonly<Record<LanguageName, readonly string[]>> = {
  python: ["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt"],
  node: ["package.json"],
  deno: ["deno.json", "deno.jsonc", "package.json"],
  rust: [], // a file is compiled by rustc, which reads no Cargo.toml
  bash: [],
};

/** Files that mark the top of several projects which use each other, and what they then have. */
const WORKSPACES: readonly (readonly [file: string, text: RegExp])[] = [
  ["pnpm-workspace.yaml", /^/],
  ["package.json", /"workspaces"\s*:/],
  ["deno.json", /"workspace"\s*:/],
  ["deno.jsonc", /"workspace"\s*:/],
];
const HAS_WORKSPACES: ReadonlySet<LanguageName> = new Set(["node", "deno"]);

/** What a compiler reads beside a file of Rust; without any of it, it is compiled alone. */
const READS_MORE = /\bmod\s+\w+\s*;|\binclude(_str|_bytes)?!/;

/** Most of a directory without any mark that is sent. */
const SMALL: ProjectLimits = { bytes: 1 << 20, entries: 256 };

/** Characters of a place in the workload's directory: paths in the microVM have a limit. */
const MAX_PLACE = 512;

/** A file with what is around it. */
export interface Around {
  readonly listing: ProjectListing;
  /** The file, relative to the listing's root. */
  readonly file: string;
  /** Where the listing's files are in the workload's directory; "" for its top. */
  readonly place: string;
  /** Where the program runs, relative to the workload's directory; "" for its top. */
  readonly workingDirectory: string;
}

/** What is found, and what people should know of it. */
export interface Search {
  /** Undefined when the file is sent alone. */
  readonly around: Around | undefined;
  readonly remarks: readonly string[];
}

/** Who asks: directories that mean something. */
export interface Caller {
  /** The current directory. */
  readonly directory: string;
  readonly home: string | undefined;
  /** For temporary files. */
  readonly temporary: readonly string[];
}

/** This process; undefined when it may not know, or when its directory is gone. */
export function thisCaller(): Caller | undefined {
  try {
    const [home, temporary] = ["HOME", "TMPDIR"].map((name) => Deno.env.get(name) || undefined);
    return {
      directory: Deno.cwd(),
      home,
      temporary: ["/tmp", "/var/tmp", "/dev/shm", "/run", temporary ?? "/tmp"],
    };
  } catch {
    return undefined;
  }
}

/**
 * Finds what is sent with a source file.
 *
 * @param path of the file, which is there
 * @param language that it is written in
 */
export async function findAround(
  path: string,
  language: LanguageName,
  caller: Caller | undefined = thisCaller(),
): Promise<Search> {
  if (caller === undefined) return { around: undefined, remarks: [] };
  const file = await Deno.realPath(path); // interpreters look beside what a link leads to
  const text = await textOf(file);
  if (language === "rust" && !READS_MORE.test(text)) return { around: undefined, remarks: [] };
  const never = await neverSent(caller);
  const remarks: string[] = [];
  const top = await projectOf(dirname(file), language, never);
  if (top !== undefined) {
    try {
      const listing = await listProject(top, { around: "a project" });
      return { around: await placeOf(listing, file, caller), remarks };
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
      remarks.push(`${path} is sent without the project that it is in. ${error.message}`);
    }
  }
  if (never(dirname(file))) return { around: undefined, remarks };
  try {
    const listing = await listProject(dirname(file), { around: "a directory", limits: SMALL });
    const alone = listing.entries.every(({ path }) => path === basename(file));
    return { around: alone ? undefined : await placeOf(listing, file, caller), remarks };
  } catch (error) {
    if (!(error instanceof TooLarge)) throw error;
    if (top === undefined && await mentionsNeighbour(file, text)) {
      remarks.push(
        `${path} is sent without what is beside it: its directory has more than ` +
          `${SMALL.entries} files or ${mebibytes(SMALL.bytes)}. To send that, run the directory ` +
          `with --entry ${basename(path)}`,
      );
    }
    return { around: undefined, remarks };
  }
}

/** The beginning of a file; empty when it cannot be read, which reading it all will say. */
async function textOf(file: string): Promise<string> {
  try {
    using open = await Deno.open(file);
    const buffer = new Uint8Array(1 << 20); // more is no program that people wrote
    const length = await open.read(buffer) ?? 0;
    return new TextDecoder().decode(buffer.subarray(0, length));
  } catch {
    return "";
  }
}

/** Which directories are never sent because a file in them is run. */
async function neverSent(caller: Caller): Promise<(directory: string) => boolean> {
  const real = (path: string) => Deno.realPath(path).catch(() => path);
  const home = caller.home === undefined ? undefined : await real(caller.home);
  const temporary = new Set(await Promise.all(caller.temporary.map(real)));
  return (directory) =>
    directory === "/" || temporary.has(directory) ||
    home !== undefined && isWithin(directory, home);
}

/** The top of the project that a directory belongs to, if any. */
async function projectOf(
  directory: string,
  language: LanguageName,
  never: (directory: string) => boolean,
): Promise<string | undefined> {
  const marks = [IGNORE_FILE, ...MARKS[language]];
  let top: string | undefined;
  for (let here = directory; !never(here); here = dirname(here)) {
    if (top === undefined && await hasAny(here, marks)) top = here;
    if (top !== undefined && !HAS_WORKSPACES.has(language)) break;
    if (top !== undefined && await isWorkspace(here)) return here;
    if (await hasAny(here, [".git"])) break;
  }
  return top;
}

async function hasAny(directory: string, names: readonly string[]): Promise<boolean> {
  for (const name of names) {
    if (await Deno.stat(join(directory, name)).catch(() => undefined)) return true;
  }
  return false;
}

async function isWorkspace(directory: string): Promise<boolean> {
  for (const [name, pattern] of WORKSPACES) {
    const text = await Deno.readTextFile(join(directory, name)).catch(() => undefined);
    if (text !== undefined && pattern.test(text)) return true;
  }
  return false;
}

/** Whether a program has the name of something beside it in its text. */
async function mentionsNeighbour(file: string, text: string): Promise<boolean> {
  const words = new Set(text.match(/[\p{L}\p{N}_-]{3,}/gu));
  for await (const { name } of Deno.readDir(dirname(file))) {
    const stem = /^[\p{L}\p{N}_-]+/u.exec(name)?.[0];
    if (stem !== undefined && name !== basename(file) && words.has(stem)) return true;
  }
  return false;
}

/** Where the files are in the workload's directory, and where the program runs. */
async function placeOf(
  listing: ProjectListing,
  file: string,
  caller: Caller,
): Promise<Around | undefined> {
  const { root, entries } = listing;
  const path = relative(root, file);
  if (!entries.some((entry) => entry.path === path && entry.kind === "file")) {
    return undefined; // the rules leave it out
  }
  const directory = await Deno.realPath(caller.directory);
  const around = { listing, file: path, place: "", workingDirectory: "" };
  if (isWithin(root, directory)) {
    const workingDirectory = relative(root, directory);
    const isSent = entries.some((entry) => entry.path.startsWith(`${workingDirectory}/`));
    return { ...around, workingDirectory: isSent ? workingDirectory : "" };
  }
  const place = relative(directory, root);
  return isWithin(directory, root) && place.length < MAX_PLACE ? { ...around, place } : around;
}
