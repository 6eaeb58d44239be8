/**
 * cloudlet runs any program in a Linux microVM of its own.
 *
 * As the main module this is the command line; imported, it is the library.
 *
 * @module
 */
import { lazyRun } from "./api/library/lazy_run.ts";
import type { Run, RunOptions } from "./api/library/run.ts";

export type { LanguageName } from "./workload/languages.ts";
export type {
  BuildNetworkOptions,
  ForkOptions,
  ImageOptions,
  NetworkOptions,
  NetworkReport,
  OutputFile,
  OutputPiece,
  Run,
  RunEvent,
  RunOptions,
  RunOutput,
  RunResult,
  RunUsage,
  SecretOptions,
  ServerAddress,
  WrittenLanguage,
} from "./api/library/run.ts";
import { lazyImport } from "./base/lazy_import.ts";
export { CloudletError, type CloudletErrorOptions, type ErrorCode } from "./base/errors.ts";
export type { Progress, ProgressOptions, ProgressTask } from "./base/progress.ts";

/**
 * Runs a program in a microVM of its own.
 *
 * The run starts when you iterate it or ask for its result.
 *
 * @param options what to run, and how
 * @returns the run; dispose it to end it early
 * @throws {CloudletError} `invalid-input` when the options do not fit together
 *
 * @example Collect the output
 * ```ts
 * import { run } from "jsr:@cloudlet/cli";
 *
 * async function answer(): Promise<string> {
 *   const { stdout } = await run({ language: "python", code: "print(6 * 7)" }).output();
 *   return new TextDecoder().decode(stdout);
 * }
 * ```
 *
 * @example See the output as it comes
 * ```ts
 * import { run } from "jsr:@cloudlet/cli";
 *
 * async function show(source: string): Promise<number> {
 *   await using program = run({ source, args: ["10"], timeout: 60_000 });
 *   for await (const event of program) {
 *     if (event.type === "stdout") await Deno.stdout.write(event.data);
 *   }
 *   return (await program.result).exitCode;
 * }
 * ```
 */
export function run(options: RunOptions): Run {
  return lazyRun(options);
}

if (import.meta.main) {
  const { main } = await lazyImport<typeof import("./cli/main.ts")>(
    "./cli/main.ts",
    import.meta.url,
  );
  Deno.exit(await main(Deno.args));
}
