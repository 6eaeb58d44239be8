/**
 * The files of a project directory: what is sent of it, and what is left out.
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { reasonOfFile } from "../../base/files.ts";
import { LIMITS } from "../../workload/request.ts";
import { IGNORE_FILE, IgnoreRules, type Matches } from "./ignore_rules.ts";
import { linkFate } from "./project_links.ts";

/** A file of a workload. */
export interface SourceFile {
  /** Relative to the workload's directory, names separated by "/". */
  readonly path: string;
  /** The content. */
  readonly content: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
  /** Where it leads, when it is a symbolic link. */
  readonly target?: string;
  /** Whether it is a directory, which is named only when nothing is in it. */
  readonly directory?: boolean;
}

/** How much of a directory is sent at most. */
export interface ProjectLimits {
  /** Bytes of all files: they travel in one message and lie in the microVM's memory. */
  readonly bytes: number;
  /** Files, links and directories. */
  readonly entries: number;
}

/** Most of what is sent. */
export const PROJECT_LIMITS: ProjectLimits = { bytes: 64 << 20, entries: LIMITS.files };
/** A project above this is worth a remark, in bytes: at the slowest, it takes half a minute. */
const LARGE = 16 << 20;

/** How a directory is read. */
export interface ListOptions {
  readonly limits?: ProjectLimits;
  /**
   * Whether it was named by the user. Otherwise it is around a file that was: hidden files are left
   * out, unless it is a project by its looks, and so is what cannot be read.
   */
  readonly around?: "nothing" | "a directory" | "a project";
}

/** What is found before anything is read. */
type Entry =
  | { readonly kind: "file"; readonly path: string; readonly size: number; readonly mode: number }
  | { readonly kind: "link"; readonly path: string; readonly target: string }
  | { readonly kind: "directory"; readonly path: string };

/** Why something is left out, as a remark says it: of one, and of several. */
const REASONS = {
  nowhere: ["a link that leads nowhere", "links that lead nowhere"],
  out: ["a link that leads out of it", "links that lead out of it"],
  special: ["a socket, pipe or device", "sockets, pipes or devices"],
  name: ["a name that is not UTF-8", "names that are not UTF-8"],
  place: ["a path that is too long", "paths that are too long"],
  unreadable: ["a file that you may not read", "files that you may not read"],
} as const;

/** A directory has more than is sent. */
export class TooLarge extends CloudletError {}

/** What is in a project directory; see {@linkcode listProject}. */
export class ProjectListing {
  readonly entries: Entry[] = [];
  /** Of all files. */
  bytes = 0;
  readonly #leftOut = new Map<keyof typeof REASONS, string[]>();
  #directories = 0;

  /**
   * @param root absolute path, without links in it
   * @param shown the directory, for messages
   */
  constructor(readonly root: string, readonly shown: string) {}

  /** Notes what is not sent. */
  leaveOut(path: string, why: keyof typeof REASONS): void {
    const paths = this.#leftOut.get(why);
    if (paths === undefined) this.#leftOut.set(why, [path]);
    else paths.push(path);
  }

  /** Notes what is sent. @throws {TooLarge} */
  add(entry: Entry, limits: ProjectLimits): void {
    this.entries.push(entry);
    if (entry.kind === "file") this.bytes += entry.size;
    this.#checkCount(limits);
  }

  /** Notes a directory that has something in it. @throws {TooLarge} */
  enter(limits: ProjectLimits): void {
    this.#directories++;
    this.#checkCount(limits);
  }

  #checkCount({ entries }: ProjectLimits): void {
    if (this.entries.length + this.#directories <= entries) return;
    throw this.#tooLarge(`it has more than ${entries} files, links and directories`, "entries");
  }

  /** @throws {TooLarge} */
  checkSize({ bytes }: ProjectLimits): void {
    if (this.bytes <= bytes) return;
    throw this.#tooLarge(
      `it has ${mebibytes(this.bytes)}, more than ${mebibytes(bytes)}`,
      "bytes",
    );
  }

  #tooLarge(why: string, unit: "bytes" | "entries"): TooLarge {
    return new TooLarge(`Cannot read the source ${this.shown}: ${why} (${this.#largest(unit)})`, {
      code: "invalid-input",
      remedy: `list what is not needed in ${join(this.shown, IGNORE_FILE)}, ` +
        "or put data into the image",
    });
  }

  /** What has the most of it, at the top. */
  #largest(unit: "bytes" | "entries"): string {
    const sums = new Map<string, number>();
    for (const entry of this.entries) {
      const top = entry.path.split("/", 1)[0]!;
      const amount = unit === "entries" ? 1 : entry.kind === "file" ? entry.size : 0;
      sums.set(top, (sums.get(top) ?? 0) + amount);
    }
    return [...sums].sort(([, a], [, b]) => b - a).slice(0, 3)
      .map(([name, sum]) => `${name} ${unit === "bytes" ? mebibytes(sum) : sum}`).join(", ");
  }

  /** What people should know of it. */
  get remarks(): string[] {
    const remarks: string[] = [];
    const parts = [...this.#leftOut].map(([why, paths]) => {
      const what = paths.length === 1 ? REASONS[why][0] : `${paths.length} ${REASONS[why][1]}`;
      return `${what} (${paths.slice(0, 3).join(", ")}${paths.length > 3 ? ", ..." : ""})`;
    });
    if (parts.length > 0) remarks.push(`Left out of ${this.shown}: ${parts.join("; ")}`);
    if (this.bytes > LARGE) {
      remarks.push(
        `Sending ${mebibytes(this.bytes)} of ${this.shown}: ${this.#largest("bytes")}; ` +
          `list what is not needed in ${join(this.shown, IGNORE_FILE)}`,
      );
    }
    return remarks;
  }

  /** The files with their contents; without those that are gone by now. */
  async read(limits: ProjectLimits = PROJECT_LIMITS): Promise<SourceFile[]> {
    const files: SourceFile[] = [];
    const nothing = new Uint8Array();
    this.bytes = 0; // a log may have grown since
    for (const entry of this.entries) {
      const { path } = entry;
      if (entry.kind === "link") {
        files.push({ path, content: nothing, mode: 0, target: entry.target });
      } else if (entry.kind === "directory") {
        files.push({ path, content: nothing, mode: 0, directory: true });
      } else {
        const content = await this.#content(path);
        if (content === undefined) continue;
        this.bytes += content.length;
        this.checkSize(limits);
        files.push({ path, content, mode: entry.mode });
      }
    }
    return files;
  }

  async #content(path: string): Promise<Uint8Array | undefined> {
    try {
      return await Deno.readFile(join(this.root, path));
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return undefined; // of an editor, say
      throw refuse(join(this.shown, path), reasonOfFile(cause), MAKE_READABLE, cause);
    }
  }
}

const MAKE_READABLE = `make it readable, or list it in ${IGNORE_FILE}`;

/** An error about a source. */
export function refuse(
  path: string,
  why: string,
  remedy: string,
  cause?: unknown,
): CloudletError {
  return new CloudletError(`Cannot read the source ${path}: ${why}`, {
    code: "invalid-input",
    remedy,
    cause,
  });
}

/** Bytes as people read them. */
export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 && bytes > 0 ? 2 : 1)} MiB`;
}

/**
 * Lists what is sent of a directory: all but what its `.cloudletignore` names, version control, and
 * what Python and cargo make again. Links inside it stay links; those that lead nowhere or out of it
 * are left out, as what they show would be sent unasked. Nothing is read yet but names and sizes.
 *
 * @param path of the directory
 * @throws {CloudletError} `invalid-input`, such as for a name that is not UTF-8
 * @throws {TooLarge} for more than the limits
 */
export async function listProject(
  path: string,
  options: ListOptions = {},
): Promise<ProjectListing> {
  const { limits = PROJECT_LIMITS, around = "nothing" } = options;
  const root = await Deno.realPath(path).catch((cause) => {
    throw refuse(path, reasonOfFile(cause), "give another directory", cause);
  });
  const listing = new ProjectListing(root, path);
  const rules = await rulesOf(root, path);
  await visit(listing, rules, { limits, around }, "", undefined);
  listing.checkSize(limits);
  return listing;
}

async function rulesOf(root: string, shown: string): Promise<IgnoreRules> {
  let text: string;
  try {
    text = await Deno.readTextFile(join(root, IGNORE_FILE));
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return new IgnoreRules();
    throw refuse(join(shown, IGNORE_FILE), reasonOfFile(cause), MAKE_READABLE, cause);
  }
  return new IgnoreRules(text, join(shown, IGNORE_FILE));
}

/** Lists a directory. @returns whether something in it is sent */
async function visit(
  listing: ProjectListing,
  rules: IgnoreRules,
  options: Required<ListOptions>,
  below: string,
  above: Matches | undefined,
): Promise<boolean> {
  const { limits, around } = options;
  const shown = join(listing.shown, below);
  let names: string[];
  try {
    names = await Array.fromAsync(Deno.readDir(join(listing.root, below)), ({ name }) => name);
  } catch (cause) {
    if (around === "nothing") throw refuse(shown, reasonOfFile(cause), MAKE_READABLE, cause);
    listing.leaveOut(below, "unreadable");
    return false;
  }
  names.sort((a, b) => (a < b ? -1 : 1)); // the same project, the same request
  const isCrate = names.includes("Cargo.toml");
  let found = false;
  for (const name of names) {
    if (around === "a directory" && name.startsWith(".")) continue;
    const path = below === "" ? name : `${below}/${name}`;
    const { ignored, matches } = rules.look(path, above, isCrate && name === "target");
    if (ignored && !rules.mayHold(path)) continue;
    const info = await Deno.lstat(join(listing.root, path)).catch((cause) => {
      if (cause instanceof Deno.errors.NotFound) return undefined;
      throw refuse(join(listing.shown, path), reasonOfFile(cause), MAKE_READABLE, cause);
    });
    if (info === undefined) {
      if (ignored || !name.includes("\uFFFD")) continue; // it is gone
      if (around === "nothing") throw await notUtf8(shown, name);
      listing.leaveOut(path, "name");
      continue;
    }
    const problem = placeProblem(path);
    if (problem !== undefined) {
      const place = join(shown, name);
      if (around === "nothing") throw refuse(place, problem, `list it in ${IGNORE_FILE}`);
      listing.leaveOut(path, "place");
    } else if (info.isDirectory) {
      const some = await visit(listing, rules, options, path, matches);
      if (some) listing.enter(limits);
      else if (!ignored) listing.add({ kind: "directory", path }, limits);
      found ||= some || !ignored;
    } else if (!ignored) {
      found = await addFile(listing, options, path, info) || found;
    }
  }
  return found;
}

/** Adds what is no directory. @returns whether it is sent */
async function addFile(
  listing: ProjectListing,
  { limits, around }: Required<ListOptions>,
  path: string,
  info: Deno.FileInfo,
): Promise<boolean> {
  if (info.isSymlink) {
    const fate = await linkFate(listing.root, path);
    if (fate.kind === "sent") listing.add({ kind: "link", path, target: fate.target }, limits);
    else listing.leaveOut(path, fate.why);
    return fate.kind === "sent";
  }
  if (!info.isFile) {
    listing.leaveOut(path, "special");
    return false;
  }
  if (around !== "nothing" && !await isReadable(join(listing.root, path))) {
    listing.leaveOut(path, "unreadable");
    return false;
  }
  listing.add({ kind: "file", path, size: info.size, mode: (info.mode ?? 0o644) & 0o777 }, limits);
  return true;
}

async function isReadable(path: string): Promise<boolean> {
  try {
    using _file = await Deno.open(path);
    return true;
  } catch {
    return false;
  }
}

/** Why a guest's agent would refuse a path, if it would. */
function placeProblem(path: string): string | undefined {
  if (path.split("/").length > LIMITS.depth) {
    return `it is more than ${LIMITS.depth} directories deep`;
  }
  if (new TextEncoder().encode(path).length <= LIMITS.path) return undefined;
  return `its path has more than ${LIMITS.path} bytes`;
}

/** The error for a name whose bytes are no text, which Deno gives with U+FFFD in their place. */
async function notUtf8(directory: string, name: string): Promise<CloudletError> {
  const escaped = await escapedNames(directory);
  // What is ASCII may be escaped as well, such as a space.
  const texts = name.split(/\uFFFD+/).map((text) =>
    [...text].map((character) => `\\\\?${RegExp.escape(character)}`).join("")
  );
  const pattern = new RegExp(`^${texts.join("(?:\\\\[0-7]{3})+")}$`);
  const found = escaped.find((name) => pattern.test(name)) ?? name.replaceAll("\uFFFD", "\\ufffd");
  return refuse(
    `${directory}${directory.endsWith("/") ? "" : "/"}${found}`,
    "its name is not UTF-8",
    `rename it, or list it in ${IGNORE_FILE} with "?" for each such byte`,
  );
}

/** The names in a directory with octal numbers for what is not ASCII; none when `ls` is missing. */
async function escapedNames(directory: string): Promise<string[]> {
  try {
    const { stdout } = await new Deno.Command("ls", {
      args: ["-1Ab", "--", directory],
      env: { LC_ALL: "C" },
      stderr: "null",
    }).output();
    return new TextDecoder().decode(stdout).split("\n");
  } catch {
    return [];
  }
}
