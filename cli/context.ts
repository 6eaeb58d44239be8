/**
 * What the commands share: progress, cancellation, and how an error is shown.
 *
 * @module
 */
import type { CommandContext } from "@stricli/core";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import { OUTPUT_CLOSED, OutputClosed } from "./output.ts";
import { terminalProgress } from "./progress.ts";

/** What long work is given. */
export interface WorkOptions {
  /** Shows how far it is. */
  readonly progress: Progress;
}

/**
 * Runs long work with progress shown, and gives the terminal back afterwards. Ctrl-C is not caught
 * here: base/signals.ts ends the process, and base/files.ts removes what is unfinished.
 */
export async function withProgress<T>(work: (options: WorkOptions) => Promise<T>): Promise<T> {
  const progress = terminalProgress();
  try {
    return await work({ progress });
  } finally {
    progress[Symbol.dispose]();
  }
}

/** Exit codes of cloudlet's own failures; a program's own code is passed on unchanged. */
export const EXIT = {
  /** Something failed: sysexits.h has finer codes, which no program here would tell apart. */
  failure: 1,
  /** The command line or the config is wrong. */
  usage: 2,
} as const;

/** Makes `code` the exit code of the command that runs in `context`. */
export function exitWith(context: CommandContext, code: number): void {
  const process: CommandContext["process"] & { exitCode?: number } = context.process;
  process.exitCode = code;
}

/** The exit code of a command that an error ended. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof OutputClosed) return OUTPUT_CLOSED;
  return error instanceof CloudletError && error.code === "invalid-input"
    ? EXIT.usage
    : EXIT.failure;
}

/** A context that knows the whole command line. */
export interface WithCommandLine {
  readonly commandLine?: readonly string[];
}

/** How many words follow `--`; with none, 0. */
export function wordsAfterDashes(context: CommandContext & WithCommandLine): number {
  const { commandLine = [] } = context;
  const dashes = commandLine.indexOf("--");
  return dashes < 0 ? 0 : commandLine.length - dashes - 1;
}

/** How an error reads on the terminal: what happened, then what to do. Empty for a reader that has gone. */
export function describeError(error: unknown): string {
  if (error instanceof OutputClosed) return "";
  if (error instanceof CloudletError) {
    return error.remedy === undefined
      ? `cloudlet: ${error.message}`
      : `cloudlet: ${error.message}\n  -> ${error.remedy}`;
  }
  const stack = error instanceof Error && error.stack ? error.stack : messageOf(error);
  return `cloudlet: unexpected error: ${stack}`;
}
