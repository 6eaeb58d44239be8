/**
 * The command line: finds the command, reads its arguments and runs it.
 *
 * @module
 */
import {
  type Application,
  ArgumentScannerError,
  buildApplication,
  buildCommand,
  buildRouteMap,
  formatMessageForArgumentScannerError,
  run,
  text_en,
} from "@stricli/core";
import { CloudletError, messageOf } from "../base/errors.ts";
import config from "../deno.json" with { type: "json" };
import { BRIEF, type CalledWith, type Entry, type Target } from "./command.ts";
import { calledBy, commands, exitCodesFor } from "./commands.ts";
import { describeError, exitCodeOf, type ExitCodes } from "./context.ts";
import { outputError, say, writeSync } from "./output.ts";
import { splitAtProgram, type WithProgram } from "./program_words.ts";

/** A command that is listed, and never run. */
function listed({ brief }: Entry): Target {
  return buildCommand({ docs: { brief }, parameters: {}, func() {} });
}

/**
 * The application as far as a command line needs it: help and suggestions list all commands, and no
 * more of them than their names.
 *
 * @param called the one command that is loaded, by its name
 * @param codes of its failures
 */
function application(
  called: Record<string, Target> | undefined,
  codes: ExitCodes,
): Application<CalledWith> {
  const routes = buildRouteMap<string, CalledWith>({
    routes: called ??
      Object.fromEntries(Object.entries(commands).map(([name, entry]) => [name, listed(entry)])),
    docs: { brief: BRIEF },
  });
  return buildApplication(routes, {
    name: "cloudlet",
    versionInfo: { currentVersion: config.version },
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
    documentation: { caseStyle: "convert-camel-to-kebab" },
    determineExitCode: (error) => exitCodeOf(error, codes),
    localization: {
      text: {
        ...text_en,
        exceptionWhileRunningCommand: describeError,
        exceptionWhileLoadingCommandFunction: describeError,
        commandErrorResult: describeError,
        exceptionWhileParsingArguments: describeParseError,
      },
    },
  });
}

/** How an argument that cannot be read is shown: with what to write in its place. */
function describeParseError(error: unknown): string {
  if (!(error instanceof ArgumentScannerError)) return describeError(error);
  return `cloudlet: ${
    formatMessageForArgumentScannerError(error, {
      ArgumentParseError: ({ externalFlagNameOrPlaceholder: name, exception }) =>
        exception instanceof CloudletError && exception.remedy !== undefined
          ? `Cannot use ${name}: ${exception.message}\n  -> ${exception.remedy}`
          : `Cannot use ${name}: ${messageOf(exception)}`,
    })
  }`;
}

/**
 * Runs one command line.
 *
 * @param args what follows the program's name
 * @returns the exit code
 * @throws {OutputClosed} and {CloudletError} when help cannot be written
 */
export async function runCommandLine(args: readonly string[]): Promise<number> {
  let failure: ReturnType<typeof outputError> | undefined;
  const process: {
    stdout: { write(text: string): void };
    stderr: { write(text: string): void };
    exitCode?: number | string | null;
  } = {
    stdout: {
      // Help and version; stricli would show what is thrown here as a defect of its own.
      write(text) {
        try {
          writeSync(text);
        } catch (error) {
          failure ??= outputError(error);
        }
      },
    },
    stderr: {
      // Of a reader that has gone, describeError has nothing to say.
      write(text) {
        if (text !== "\n") say(text.replace(/\n$/, ""));
      },
    },
  };
  const entry = calledBy(args);
  const codes = exitCodesFor(args);
  const target = await entry?.load();
  const line = entry?.takesProgram && target !== undefined && "parameters" in target
    ? splitAtProgram(args.slice(1), target.parameters)
    : undefined;
  const context: WithProgram & CalledWith = {
    process,
    commands,
    runCommandLine,
    ...(line?.dashes && { dashes: line.dashes }),
  };
  await run(
    application(target && { [args[0]!]: target }, codes),
    line === undefined ? args : [args[0]!, ...line.own, "--", ...line.words],
    context,
  );
  if (failure !== undefined) throw failure;
  const code = Number(process.exitCode ?? 0);
  // stricli's own codes for a command line that it could not understand are negative
  return code < 0 ? codes.usage : code;
}
