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

/** Exit codes of a command's own failures. */
export interface ExitCodes {
  /** Something failed: sysexits.h has finer codes, which no program here would tell apart. */
  readonly failure: number;
  /** The command line or the config is wrong. */
  readonly usage: number;
}

/** Of commands that run no program. */
export const EXIT: ExitCodes = { failure: 1, usage: 2 };

/**
 * Of commands that end with a program's exit code, which none of cloudlet's own may be taken for:
 * those of docker run, 125 for its own failures, the others as shells have them (POSIX.1-2017, Shell
 * Command Language, 2.8.2).
 */
export const RUN_EXIT = { failure: 125, usage: 125, cannotRun: 126, notFound: 127 } as const;

/** What was to be run is not there, or cannot be run. */
export class CannotRun extends CloudletError {
  /** {@linkcode RUN_EXIT}. */
  readonly exitCode: 126 | 127;

  /** Makes an error, to be thrown. */
  constructor(message: string, exitCode: 126 | 127, remedy: string) {
    super(message, { code: exitCode === 127 ? "not-found" : "invalid-input", remedy });
    this.exitCode = exitCode;
  }
}

/** Makes `code` the exit code of the command that runs in `context`. */
export function exitWith(context: CommandContext, code: number): void {
  const process: CommandContext["process"] & { exitCode?: number } = context.process;
  process.exitCode = code;
}

/**
 * The exit code of a command that an error ended.
 *
 * @param codes of the command
 */
export function exitCodeOf(error: unknown, codes: ExitCodes = EXIT): number {
  if (error instanceof OutputClosed) return OUTPUT_CLOSED;
  if (error instanceof CannotRun) return error.exitCode;
  return error instanceof CloudletError && error.code === "invalid-input"
    ? codes.usage
    : codes.failure;
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
