/**
 * The command line: which commands there are. What each does is in the file of its name.
 *
 * @module
 */
import {
  type Application,
  ArgumentScannerError,
  buildApplication,
  buildRouteMap,
  type Command,
  type CommandContext,
  formatMessageForArgumentScannerError,
  type RouteMap,
  run,
  text_en,
} from "@stricli/core";
import { CloudletError, messageOf } from "../base/errors.ts";
import config from "../deno.json" with { type: "json" };
import { describeError, EXIT, exitCodeOf, type WithCommandLine } from "./context.ts";
import { outputError, say, writeSync } from "./output.ts";

type Target = Command<CommandContext> | RouteMap<CommandContext>;

/** Each command by its name; loading one takes a while, so none is loaded before it is called for. */
const commands: Readonly<Record<string, () => Promise<Target>>> = {
  run: async () => (await import("./run.ts")).runCommand,
  serve: async () => (await import("./serve.ts")).serveCommand,
  ps: async () => (await import("./ps.ts")).psCommand,
  logs: async () => (await import("./ps.ts")).logsCommand,
  stop: async () => (await import("./ps.ts")).stopCommand,
  fork: async () => (await import("./fork.ts")).forkCommand,
  shutdown: async () => (await import("./ps.ts")).shutdownCommand,
  key: async () => (await import("./serve.ts")).keyCommand,
  boot: async () => (await import("./boot_command.ts")).bootCommand,
  doctor: async () => (await import("./doctor_command.ts")).doctorCommand,
  image: async () => (await import("./image.ts")).imageRoutes,
  kernel: async () => (await import("./kernel.ts")).kernelRoutes,
  snapshot: async () => (await import("./snapshot.ts")).snapshotRoutes,
};

/** The application as far as a command line needs it: help and suggestions need all commands. */
async function application(args: readonly string[]): Promise<Application<CommandContext>> {
  const [name = ""] = args;
  const needed = Object.hasOwn(commands, name) ? [name] : Object.keys(commands);
  const routes = buildRouteMap<string, CommandContext>({
    routes: Object.fromEntries(
      await Promise.all(needed.map(async (name) => [name, await commands[name]!()] as const)),
    ),
    docs: { brief: "Runs any program in a Linux microVM of its own" },
  });
  return buildApplication(routes, {
    name: "cloudlet",
    versionInfo: { currentVersion: config.version },
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
    documentation: { caseStyle: "convert-camel-to-kebab" },
    determineExitCode: exitCodeOf,
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
  const context: CommandContext & WithCommandLine = { process, commandLine: args };
  await run(await application(args), args, context);
  if (failure !== undefined) throw failure;
  const code = Number(process.exitCode ?? 0);
  // stricli's own codes for a command line that it could not understand are negative
  return code < 0 ? EXIT.usage : code;
}
