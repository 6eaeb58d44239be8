/**
 * What an interpreter that waits for a program must know of it beforehand.
 *
 * Most can run any file. Some look at a few things once, when they start: which file is the main one,
 * or what the project's configuration says. Both sides compute it: the host, to have such an
 * interpreter in a snapshot, and the agent, to see whether the one that waits will do.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { File } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Language } from "./languages.ts";
import type { Job } from "./request.ts";
import { sameFiles } from "./workspace.ts";

/** See the module. */
export interface WarmNeeds {
  /** The main file, relative to the workload's directory. */
  readonly entryPoint: string;
  /** Files of the workload that are looked at when the interpreter starts. */
  readonly files: readonly File[];
}

/** What is needed for a workload of one file. */
export function usualNeeds({ sourceFile }: Language): WarmNeeds {
  return { entryPoint: sourceFile, files: [] };
}

/** What a job needs beyond a workload of one file; undefined when that is nothing, or no use. */
export function unusualNeeds(job: Job): WarmNeeds | undefined {
  const needs = warmNeeds(job);
  return needs === undefined || sameNeeds(needs, usualNeeds(job.language)) ? undefined : needs;
}

/** What a job needs, or undefined when no interpreter can wait for it. */
export function warmNeeds(
  job: Pick<Job, "language" | "sources" | "entryPoint" | "environment" | "user" | "cold">,
): WarmNeeds | undefined {
  const { language, sources, entryPoint } = job;
  const { warm } = language;
  if (warm === undefined || !canWait(job)) return undefined;
  const { startFiles } = warm;
  const files = startFiles === undefined
    ? []
    : sources.filter(({ path }) => startFiles.test(path.slice(path.lastIndexOf("/") + 1)));
  const { startReferences } = warm;
  if (startReferences !== undefined) {
    const text = (file: File) => new TextDecoder().decode(file.content);
    if (files.some((file) => startReferences.test(text(file)))) return undefined;
  }
  if (warm.anyFile) return { ...usualNeeds(language), files };
  try {
    const main = language.run({
      directory: "",
      output: "",
      files: sources.map(({ path }) => path),
      entryPoint,
      release: false,
      read: () => undefined,
      executables: () => [],
    }).at(-1)!;
    return { entryPoint: main.slice(1), files };
  } catch (error) {
    if (error instanceof CloudletError) return undefined; // who runs it says what is wrong
    throw error;
  }
}

/** Whether an interpreter that started before can run a program in this environment, as this user. */
export function canWait(
  { language, environment, user, cold }: Pick<Job, "language" | "environment" | "user" | "cold">,
): boolean {
  return !cold && user === "" &&
    !Object.keys(environment).some((name) => language.warm?.startVariables.test(name));
}

/** Whether an interpreter that waits for the one can run the other. */
export function sameNeeds(one: WarmNeeds, other: WarmNeeds): boolean {
  return one.entryPoint === other.entryPoint && sameFiles(one.files, other.files);
}

/** Whether a file is in its place before the program comes. */
export function isThere({ files }: WarmNeeds, path: string): boolean {
  return files.some((file) => file.path === path);
}
