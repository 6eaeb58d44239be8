/**
 * What `cloudlet run` is asked to run: a source of this host, or a command of an image.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { reasonOfFile } from "../base/files.ts";
import { languageOfSource } from "../api/library/source.ts";
import { languageOfFile, languages } from "../workload/languages.ts";
import { CannotRun, RUN_EXIT } from "./context.ts";
import type { ProgramLine } from "./program_words.ts";

/** What is run, and its arguments. */
export interface Target {
  /** A config file, a source file or a project directory; undefined for a command of the image. */
  readonly source: string | undefined;
  /** Of the program; the whole command when there is no source. */
  readonly args: readonly string[];
}

/** What else the command line says of it. */
export interface TargetHints {
  readonly image?: string;
  /** Only a source has one. */
  readonly language?: string;
  /** Only a project has one. */
  readonly entry?: string;
}

/**
 * Tells a source from a command.
 *
 * @param words the program, and what belongs to it
 * @param dashes where a `--` stood: before a command, or after a source
 * @throws {CloudletError} `invalid-input` when there is neither a program nor an image
 */
export function targetOf(
  words: readonly string[],
  dashes: ProgramLine["dashes"],
  hints: TargetHints,
): Target {
  const [first, ...rest] = words;
  if (first === undefined && hints.image === undefined) {
    throw new CloudletError("Cannot run anything: neither a program nor an image is named", {
      code: "invalid-input",
      remedy: "see `cloudlet run --help`",
    });
  }
  if (first === undefined) return { source: undefined, args: [] };
  if (hints.image === undefined) return { source: first, args: rest };
  if (dashes === "before") return { source: undefined, args: words };
  return dashes === "after" || isSource(first, hints)
    ? { source: first, args: rest }
    : { source: undefined, args: words };
}

/** Whether a word beside an image is a source: images have commands of any name. */
function isSource(word: string, { language, entry }: TargetHints): boolean {
  if (language !== undefined || entry !== undefined || word.endsWith(".toml")) return true;
  if (languageOfFile(word) !== undefined) return !word.startsWith("/") || exists(word, "isFile");
  const isPath = word.includes("/") || word === "." || word === "..";
  return isPath && exists(word, "isDirectory");
}

/**
 * Checks that a source can be run, before anything else is done about it.
 *
 * @param language as the command line has it
 * @throws {CannotRun} when it is not there, is nothing that can be run, or of no known language
 */
export async function checkSource(
  source: string,
  { language, entry }: Pick<TargetHints, "language" | "entry">,
): Promise<void> {
  const cannot = (why: string, code: 126 | 127, remedy: string) =>
    new CannotRun(`Cannot run ${source}: ${why}`, code, remedy);
  const name = "give the path of a source file, a project directory or a config.toml";
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(source);
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) {
      throw cannot(reasonOfFile(error), RUN_EXIT.cannotRun, "make it readable for you");
    }
    const missing = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    const why = missing ? "there is no such file" : reasonOfFile(error);
    throw cannot(why, RUN_EXIT.notFound, name);
  }
  if (!info.isFile && !info.isDirectory) {
    throw cannot("it is no file and no directory", RUN_EXIT.cannotRun, name);
  }
  if (source.endsWith(".toml") || language !== undefined) return;
  if (await languageOfSource(source, entry) !== undefined) return;
  const known = Object.keys(languages).join(", ");
  const remedy = `name it with --language: ${known}`;
  throw cannot("its name does not tell its language", RUN_EXIT.cannotRun, remedy);
}

function exists(path: string, as: "isFile" | "isDirectory"): boolean {
  try {
    return Deno.statSync(path)[as];
  } catch {
    return false;
  }
}
