/**
 * The command line's first step: what needs no command does not wait for the commands to be loaded.
 *
 * @module
 */
import { exitOnSignals } from "../base/signals.ts";
import deno from "../deno.json" with { type: "json" };
import { rootHelp } from "./command.ts";
import { commands, exitCodesFor } from "./commands.ts";
import { describeError, exitCodeOf } from "./context.ts";
import { say, writeLine, writeSync } from "./output.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** What nothing catches is said as any other error, and ends with a code of the command's own. */
function exitOnDefects(args: readonly string[]): void {
  const end = (event: Event, error: unknown) => {
    event.preventDefault();
    const message = describeError(error);
    if (message !== "") say(message);
    Deno.exit(exitCodeOf(error, exitCodesFor(args)));
  };
  addEventListener("unhandledrejection", (event) => end(event, event.reason));
  addEventListener("error", (event) => end(event, event.error));
}

/**
 * Runs one command line.
 *
 * @param args what follows the program's name
 * @returns the exit code
 */
export async function main(args: readonly string[]): Promise<number> {
  exitOnSignals();
  exitOnDefects(args);
  try {
    if (args.length === 1 && (args[0] === "--version" || args[0] === "-v")) {
      writeLine(deno.version);
      return 0;
    }
    if (args.length === 0 || (args.length === 1 && (args[0] === "--help" || args[0] === "-h"))) {
      writeSync(rootHelp(commands));
      return 0;
    }
    const { runCommandLine } = await lazyImport<typeof import("./app.ts")>(
      "./app.ts",
      import.meta.url,
    );
    return await runCommandLine(args);
  } catch (error) {
    const message = describeError(error);
    if (message !== "") say(message);
    return exitCodeOf(error, exitCodesFor(args));
  }
}
