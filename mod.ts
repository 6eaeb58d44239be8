/**
 * cloudlet runs any program in a Linux microVM of its own.
 *
 * As the main module this is the command line; imported, it is the library.
 *
 * @module
 */
export type { LanguageName } from "./agent/languages.ts";
export {
  type ForkOptions,
  type ImageOptions,
  type Run,
  run,
  type RunEvent,
  type RunOptions,
  type RunOutput,
  type RunResult,
  type RunUsage,
  type ServerAddress,
} from "./api/run.ts";
export { CloudletError, type CloudletErrorOptions, type ErrorCode } from "./base/errors.ts";
export type { Progress, ProgressOptions, ProgressTask } from "./base/progress.ts";

if (import.meta.main) {
  const { main } = await import("./cli/app.ts");
  Deno.exit(await main(Deno.args));
}
