/**
 * A workload's files, read from this host's disk to be sent into the microVM.
 *
 * @module
 */
import { basename, dirname, normalize, posix, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { fileAt } from "../../workload/file_list.ts";
import { type LanguageName, languageOfFile, languages } from "../../workload/languages.ts";
import { CloudletError } from "../../base/errors.ts";
import { reasonOfFile } from "../../base/files.ts";
import { nearest } from "../../base/nearest.ts";
import { type Caller, findAround } from "./project_around.ts";
import {
  listProject,
  mebibytes,
  PROJECT_LIMITS,
  refuse,
  type SourceFile,
  TooLarge,
} from "./project_files.ts";
import { isWithin } from "./project_links.ts";
import { pathInWorkload } from "./workload_paths.ts";

export type { SourceFile } from "./project_files.ts";

/** What a workload consists of. */
export interface Source {
  /** Its files. */
  readonly files: readonly SourceFile[];
  /** The file to run, when it is known; otherwise the language finds it. */
  readonly entryPoint: string | undefined;
  /** Where the program runs, relative to the workload's directory; "" is that directory. */
  readonly workingDirectory: string;
  /** What people should know of what is sent. */
  readonly remarks: readonly string[];
}

/** How a source is read. */
export interface SourceOptions {
  /** The file of a project that is run; of Rust's cargo, the program. */
  readonly entryPoint?: string | undefined;
  /** What it is written in; without it, a file is read alone. */
  readonly language?: LanguageName | undefined;
  /** Whether a file is read without the project around it. */
  readonly alone?: boolean;
  /** Directories that mean something; this process's when absent. */
  readonly caller?: Caller;
}

/** Files that tell the language of a project directory, the surest first. */
const MARKS: readonly (readonly [file: string, language: LanguageName])[] = [
  ["Cargo.toml", "rust"],
  ["deno.json", "deno"],
  ["deno.jsonc", "deno"],
  ["package.json", "node"],
  ["pyproject.toml", "python"],
  ["requirements.txt", "python"],
];

/**
 * The language that a source's name tells, or that its entry point or the files of a project
 * directory tell; undefined when none does.
 *
 * @param path of a file or a directory
 * @param entryPoint the file of the project that is run, if it is known
 */
export async function languageOfSource(
  path: string,
  entryPoint?: string,
): Promise<LanguageName | undefined> {
  const byName = languageOfFile(path);
  if (byName !== undefined) return byName.name;
  const byEntry = entryPoint === undefined ? undefined : languageOfFile(entryPoint)?.name;
  let names: ReadonlySet<string>;
  try {
    names = new Set(await Array.fromAsync(Deno.readDir(path), ({ name }) => name));
  } catch {
    return byEntry; // no directory: reading it will say what is wrong
  }
  const mark = MARKS.find(([file]) => names.has(file))?.[1];
  if (byEntry !== undefined) return byEntry === "node" && mark === "deno" ? mark : byEntry;
  if (mark !== undefined) return mark;
  return Object.values(languages)
    .find(({ entryPoints }) => entryPoints.some((name) => names.has(name)))?.name;
}

/**
 * Reads a project directory, or a source file with the project around it; listProject() and
 * findAround() say what that is.
 *
 * @param path of a file or a directory
 * @throws {CloudletError} `not-found` or `invalid-input`
 */
export async function readSource(path: string, options: SourceOptions = {}): Promise<Source> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (cause) {
    throw new CloudletError(`Cannot read the source ${path}: ${reasonOfFile(cause)}`, {
      code: "not-found",
      remedy: "give the path of a source file, a project directory or a config.toml",
      cause,
    });
  }
  if (info.isFile) return await readFile(path, info, options);
  if (!info.isDirectory) throw refuse(path, "it is no file and no directory", "give one of them");
  const listing = await listProject(path);
  const files = await listing.read();
  if (files.length === 0) throw refuse(path, "it has no files", "give a project directory");
  const { remarks } = listing;
  return {
    files,
    entryPoint: entryOf(path, files, options),
    workingDirectory: "",
    remarks,
  };
}

async function readFile(
  path: string,
  info: Deno.FileInfo,
  { entryPoint, language, alone, caller }: SourceOptions,
): Promise<Source> {
  const name = basename(path);
  if (entryPoint !== undefined && normalize(entryPoint) !== name) {
    throw new CloudletError(
      `Cannot run ${JSON.stringify(entryPoint)}: the source ${path} is one file`,
      { code: "invalid-input", remedy: `give the project's directory, such as ${dirname(path)}` },
    );
  }
  const { around, remarks } = language === undefined || alone
    ? { remarks: [] }
    : await findAround(path, language, caller);
  if (around !== undefined) {
    const { listing, file, place, workingDirectory } = around;
    const files = (await listing.read()).map((file) => ({
      ...file,
      path: posix.join(place, file.path),
    }));
    return {
      files,
      entryPoint: posix.join(place, file),
      workingDirectory,
      remarks: [...remarks, ...listing.remarks],
    };
  }
  const { bytes } = PROJECT_LIMITS;
  if (info.size > bytes) {
    throw new TooLarge(
      `Cannot read the source ${path}: it has ${mebibytes(info.size)}, more than ${
        mebibytes(bytes)
      }`,
      { code: "invalid-input", remedy: "put data into the image" },
    );
  }
  try {
    const content = await Deno.readFile(path);
    const file = { path: name, content, mode: (info.mode ?? 0o644) & 0o777 };
    return { files: [file], entryPoint: name, workingDirectory: "", remarks };
  } catch (cause) {
    throw refuse(path, reasonOfFile(cause), "make the file readable", cause);
  }
}

/** The entry point of a project, relative to it; checked but for cargo, where it names a program. */
function entryOf(
  directory: string,
  files: readonly SourceFile[],
  { entryPoint: wanted, language }: SourceOptions,
): string | undefined {
  if (wanted === undefined) return undefined;
  const byPath = new Map(files.map((file) => [file.path, file]));
  const entry = wanted.startsWith("/") && isWithin(resolve(directory), wanted)
    ? relative(resolve(directory), wanted)
    : normalize(wanted);
  if (language === "rust" || fileAt(byPath, entry) !== undefined) return entry;
  const near = nearest(entry, files.map(({ path }) => path));
  throw new CloudletError(
    `Cannot run ${JSON.stringify(wanted)}: the project ${directory} has no such file`,
    {
      code: "invalid-input",
      remedy: near === undefined
        ? "name a file of the project, relative to its directory"
        : `did you mean ${near}?`,
    },
  );
}

/**
 * Reads what is to be added to an image.
 *
 * @param files files and directories of this host, by their absolute path in the image
 * @param remark hears of what is left out
 * @returns files with paths relative to the image's root
 * @throws {CloudletError} `not-found` or `invalid-input`
 */
export async function readAddedFiles(
  files: Readonly<Record<string, string | URL>>,
  remark: (text: string) => void = () => {},
): Promise<SourceFile[]> {
  return await readEach(files, remark, (goal, path) => {
    const target = normalize(goal).replace(/\/+$/, "");
    if (goal.startsWith("/") && target !== "") return target.slice(1);
    throw new CloudletError(
      `Cannot add ${path} to the image as ${
        JSON.stringify(goal)
      }: that is no absolute path of a file`,
      { code: "invalid-input", remedy: "write it as /etc/name" },
    );
  });
}

/**
 * Reads what is to be sent besides the source.
 *
 * @param files files and directories of this host, by their path relative to where the program runs
 * @param base where it runs, relative to the workload's top
 * @param remark hears of what is left out
 * @returns files with paths relative to the workload's top
 * @throws {CloudletError} `not-found` or `invalid-input`
 */
export async function readSentFiles(
  files: Readonly<Record<string, string | URL>>,
  base: string,
  remark: (text: string) => void = () => {},
): Promise<SourceFile[]> {
  return await readEach(
    files,
    remark,
    (goal, path) => pathInWorkload(goal, base, `Cannot send ${path}`),
  );
}

/** Reads files and directories, each to its place. */
async function readEach(
  files: Readonly<Record<string, string | URL>>,
  remark: (text: string) => void,
  place: (goal: string, path: string) => string,
): Promise<SourceFile[]> {
  const added: SourceFile[] = [];
  for (const [goal, from] of Object.entries(files)) {
    const path = from instanceof URL ? fileURLToPath(from) : from;
    const target = place(goal, path);
    const source = await readSource(path);
    source.remarks.forEach(remark);
    for (const file of source.files) {
      const name = source.entryPoint === undefined ? `${target}/${file.path}` : target;
      added.push({ ...file, path: name });
    }
  }
  return added;
}

/** The files of a source, with others that replace those of the same path. */
export function withAdded(
  files: readonly SourceFile[],
  added: readonly SourceFile[],
): SourceFile[] {
  if (added.length === 0) return [...files];
  return [...new Map([...files, ...added].map((file) => [file.path, file])).values()];
}
