/**
 * A workload's files, read from this host's disk to be sent into the microVM.
 *
 * @module
 */
import { basename, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type LanguageName, languageOfFile, languages } from "../../workload/languages.ts";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { reasonOfFile } from "../../base/files.ts";

/** A file of a workload. */
export interface SourceFile {
  /** Relative to the workload's directory, names separated by "/". */
  readonly path: string;
  /** The content. */
  readonly content: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
}

/** What a workload consists of. */
export interface Source {
  /** Its files. */
  readonly files: readonly SourceFile[];
  /** The file to run, when the source is one file; otherwise the language finds it. */
  readonly entryPoint: string | undefined;
}

/** Most bytes of a project: it travels in one message and lies in the microVM's memory. */
const MAX_BYTES = 64 << 20;
const MAX_FILES = 20_000;
/** Directories that hold what can be made again, or the history. */
const LEFT_OUT: ReadonlySet<string> = new Set([".git", ".hg", ".svn", "__pycache__"]);

function refuse(path: string, why: string, remedy: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot read the source ${path}: ${why}`, {
    code: "invalid-input",
    remedy,
    cause,
  });
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
 * The language that a source's name tells, or that the files of a project directory tell;
 * undefined when neither does.
 *
 * @param path of a file or a directory
 */
export async function languageOfSource(path: string): Promise<LanguageName | undefined> {
  const byName = languageOfFile(path);
  if (byName !== undefined) return byName.name;
  let names: ReadonlySet<string>;
  try {
    names = new Set(await Array.fromAsync(Deno.readDir(path), ({ name }) => name));
  } catch {
    return undefined; // no directory: reading it will say what is wrong
  }
  const mark = MARKS.find(([file]) => names.has(file));
  if (mark !== undefined) return mark[1];
  return Object.values(languages)
    .find(({ entryPoints }) => entryPoints.some((name) => names.has(name)))?.name;
}

/**
 * Reads a source file, or all files of a project directory except version control and build output
 * (`.git`, `__pycache__`, cargo's `target`). Links inside the project are followed; one that leads out of
 * it is refused, as what it shows would be sent unasked.
 *
 * @param path of a file or a directory
 * @throws {CloudletError} `not-found` or `invalid-input`
 */
export async function readSource(path: string): Promise<Source> {
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
  if (info.isFile) {
    if (info.size > MAX_BYTES) throw tooLarge(path);
    const name = basename(path);
    return { files: [await readFile(path, name, info)], entryPoint: name };
  }
  if (!info.isDirectory) throw refuse(path, "it is no file and no directory", "give one of them");
  const files: SourceFile[] = [];
  let bytes = 0;
  for await (const file of filesBelow(await Deno.realPath(path), path)) {
    bytes += file.content.length;
    if (bytes > MAX_BYTES) throw tooLarge(path);
    if (files.length === MAX_FILES) {
      throw refuse(path, `it has more than ${MAX_FILES} files`, "give a smaller directory");
    }
    files.push(file);
  }
  if (files.length === 0) throw refuse(path, "it has no files", "give a project directory");
  return { files, entryPoint: undefined };
}

/**
 * Reads what is to be added to an image.
 *
 * @param files files and directories of this host, by their absolute path in the image
 * @returns files with paths relative to the image's root
 * @throws {CloudletError} `not-found` or `invalid-input`
 */
export async function readAddedFiles(
  files: Readonly<Record<string, string | URL>>,
): Promise<SourceFile[]> {
  const added: SourceFile[] = [];
  for (const [goal, from] of Object.entries(files)) {
    const path = from instanceof URL ? fileURLToPath(from) : from;
    const target = normalize(goal).replace(/\/+$/, "");
    if (!goal.startsWith("/") || target === "") {
      throw new CloudletError(
        `Cannot add ${path} to the image as ${
          JSON.stringify(goal)
        }: that is no absolute path of a file`,
        { code: "invalid-input", remedy: "write it as /etc/name" },
      );
    }
    const source = await readSource(path);
    for (const file of source.files) {
      const name = source.entryPoint === undefined ? `${target}/${file.path}` : target;
      added.push({ ...file, path: name.slice(1) });
    }
  }
  return added;
}

function tooLarge(path: string): CloudletError {
  return refuse(
    path,
    `it has more than ${MAX_BYTES >> 20} MiB`,
    "give a smaller directory, or put data into the image",
  );
}

async function* filesBelow(root: string, shown: string, below = ""): AsyncGenerator<SourceFile> {
  const directory = join(root, below);
  const entries = await Array.fromAsync(Deno.readDir(directory));
  entries.sort((a, b) => (a.name < b.name ? -1 : 1)); // the same project, the same request
  const isCrate = entries.some(({ name }) => name === "Cargo.toml");
  for (const { name } of entries) {
    if (LEFT_OUT.has(name) || (isCrate && name === "target")) continue;
    const path = below === "" ? name : `${below}/${name}`;
    const real = await Deno.realPath(join(directory, name)).catch((cause) => {
      throw refuse(join(shown, path), messageOf(cause), "mend or remove the link", cause);
    });
    const inside = relative(root, real);
    if (inside === ".." || inside.startsWith("../")) {
      throw refuse(
        join(shown, path),
        `it is a link that leads out of the project, to ${real}`,
        "copy what it leads to into the project",
      );
    }
    const info = await Deno.stat(real);
    if (info.isFile) {
      yield await readFile(real, path, info);
    } else if (info.isDirectory) {
      if (real !== join(directory, name)) continue; // a link to a directory that is sent anyway
      yield* filesBelow(root, shown, path);
    }
  }
}

async function readFile(path: string, name: string, info: Deno.FileInfo): Promise<SourceFile> {
  try {
    const content = await Deno.readFile(path);
    return { path: name, content, mode: (info.mode ?? 0o644) & 0o777 };
  } catch (cause) {
    throw refuse(path, reasonOfFile(cause), "make the file readable", cause);
  }
}
