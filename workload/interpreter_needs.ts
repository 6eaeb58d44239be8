/**
 * What an idle interpreter must know of a program before it comes.
 *
 * Most interpreters can run any file. Some read a few things once, when they start: which file is the
 * main one, or what the project's configuration says (startup_inputs.ts). Both sides compute it: the
 * host, to have such an interpreter in a snapshot, and the agent, to see whether the idle one will do.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { File } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { isRegular, listedFiles, sameFiles } from "./file_list.ts";
import type { Language } from "./languages.ts";

/** See the module. */
export interface InterpreterNeeds {
  /** The main file, relative to the workload's directory. */
  readonly entryPoint: string;
  /** Files of the workload that the interpreter reads when it starts. */
  readonly files: readonly File[];
}

/** What decides whether an idle interpreter can run a program. */
interface Conditions {
  readonly language: Language;
  /** The program's own variables. */
  readonly environment: Readonly<Record<string, string>>;
  /** As whom it runs; "" is root. */
  readonly user: string;
  /** Whether the client wants an interpreter of its own. */
  readonly cold: boolean;
}

/** A program, as far as its needs depend on it. */
interface Program extends Conditions {
  readonly sources: readonly File[];
  readonly entryPoint: string | undefined;
}

/** The needs of a workload of one file. */
export function usualNeeds({ sourceFile }: Language): InterpreterNeeds {
  return { entryPoint: sourceFile, files: [] };
}

/** The needs of a program, when they are not {@linkcode usualNeeds}; undefined also for none. */
export function unusualNeeds(program: Program): InterpreterNeeds | undefined {
  const needs = interpreterNeeds(program);
  const usual = usualNeeds(program.language);
  return needs === undefined || sameNeeds(needs, usual) ? undefined : needs;
}

/** The needs of a program; undefined when no idle interpreter can run it. */
export function interpreterNeeds(program: Program): InterpreterNeeds | undefined {
  const { language, sources, entryPoint } = program;
  const { startup } = language;
  if (startup === undefined || !canBeIdle(program)) return undefined;
  const isRead = ({ path }: File) => startup.files?.test(path.slice(path.lastIndexOf("/") + 1));
  const files = sources.filter(isRead);
  const hasLinks = sources.some(({ target }) => target !== "");
  if (hasLinks && !files.every(isRegular)) return undefined; // what it leads to is not there yet
  const { references } = startup;
  if (references !== undefined) {
    const text = (file: File) => new TextDecoder().decode(file.content);
    if (files.some((file) => references.test(text(file)))) return undefined;
  }
  if (startup.anyFile && !hasLinks) return { ...usualNeeds(language), files };
  try {
    const main = language.run({
      directory: "",
      output: "",
      ...listedFiles(sources),
      entryPoint,
      release: false,
      executables: () => [],
    }).at(-1)!.slice(1);
    // Interpreters look for modules beside the file that a link leads to, some of them only at start.
    if (hasLinks && !sources.some((file) => file.path === main && isRegular(file))) {
      return undefined;
    }
    return startup.anyFile ? { ...usualNeeds(language), files } : { entryPoint: main, files };
  } catch (error) {
    if (error instanceof CloudletError) return undefined; // running it throws the same
    throw error;
  }
}

/** Whether an interpreter that is idle can run a program in this environment, as this user. */
export function canBeIdle({ language, environment, user, cold }: Conditions): boolean {
  return !cold && user === "" &&
    !Object.keys(environment).some((name) => language.startup?.variables.test(name));
}

/** Whether an idle interpreter with the one can run a program with the other. */
export function sameNeeds(one: InterpreterNeeds, other: InterpreterNeeds): boolean {
  return one.entryPoint === other.entryPoint && sameFiles(one.files, other.files);
}

/** Whether a file is in its place before the program comes. */
export function isThere({ files }: InterpreterNeeds, path: string): boolean {
  return files.some((file) => file.path === path);
}
