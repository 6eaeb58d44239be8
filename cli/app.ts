/**
 * The command line: which commands there are. What each does is in the file of its name.
 *
 * @module
 */
import { buildApplication, buildRouteMap, type CommandContext, run, text_en } from "@stricli/core";
import { CloudletError } from "../base/errors.ts";
import { writeAllSync } from "../base/files.ts";
import { exitOnSignals } from "../base/signals.ts";
import config from "../deno.json" with { type: "json" };
import { bootCommand } from "./boot_command.ts";
import { describeError, EXIT, type WithCommandLine } from "./context.ts";
import { doctorCommand } from "./doctor_command.ts";
import { imageRoutes } from "./image.ts";
import { kernelRoutes } from "./kernel.ts";
import { logsCommand, psCommand, shutdownCommand, stopCommand } from "./ps.ts";
import { runCommand } from "./run.ts";
import { keyCommand, serveCommand } from "./serve.ts";
import { snapshotRoutes } from "./snapshot.ts";

const routes = buildRouteMap({
  routes: {
    run: runCommand,
    serve: serveCommand,
    ps: psCommand,
    logs: logsCommand,
    stop: stopCommand,
    shutdown: shutdownCommand,
    key: keyCommand,
    boot: bootCommand,
    doctor: doctorCommand,
    image: imageRoutes,
    kernel: kernelRoutes,
    snapshot: snapshotRoutes,
  },
  docs: { brief: "Runs any program in a Linux microVM of its own" },
});

const app = buildApplication(routes, {
  name: "cloudlet",
  versionInfo: { currentVersion: config.version },
  scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
  documentation: { caseStyle: "convert-camel-to-kebab" },
  determineExitCode: (error) =>
    error instanceof CloudletError && error.code === "invalid-input" ? EXIT.usage : EXIT.failure,
  localization: {
    text: {
      ...text_en,
      exceptionWhileRunningCommand: describeError,
      exceptionWhileLoadingCommandFunction: describeError,
      commandErrorResult: describeError,
    },
  },
});

/**
 * Runs one command line.
 *
 * @param args what follows the program's name
 * @returns the exit code
 */
export async function main(args: readonly string[]): Promise<number> {
  exitOnSignals();
  const write = (stream: { writeSync(bytes: Uint8Array): number }) => ({
    write(text: string) {
      writeAllSync(stream, new TextEncoder().encode(text));
    },
  });
  const process: {
    stdout: { write(text: string): void };
    stderr: { write(text: string): void };
    exitCode?: number | string | null;
  } = { stdout: write(Deno.stdout), stderr: write(Deno.stderr) };
  const context: CommandContext & WithCommandLine = { process, commandLine: args };
  await run(app, args, context);
  const code = Number(process.exitCode ?? 0);
  // stricli's own codes for a command line that it could not understand are negative
  return code < 0 ? EXIT.usage : code;
}
