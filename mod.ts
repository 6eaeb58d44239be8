/**
 * cloudlet runs any program in a Linux microVM of its own.
 *
 * As the main module this is the command line; imported, it is the library.
 *
 * @module
 */
export { CloudletError, type ErrorCode } from "./base/errors.ts";

if (import.meta.main) {
  const { main } = await import("./cli/app.ts");
  Deno.exit(await main(Deno.args));
}
