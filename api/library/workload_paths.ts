/**
 * Paths in a workload's directory, as callers write them: relative to where the program runs.
 *
 * @module
 */
import { posix } from "node:path";
import { CloudletError } from "../../base/errors.ts";

/**
 * The path from the workload's top.
 *
 * @param path relative to where the program runs
 * @param base where it runs, relative to the top
 * @param what begins the error, such as "Cannot send x"
 * @throws {CloudletError} `invalid-input` for one that is not below the top
 */
export function pathInWorkload(path: string, base: string, what: string): string {
  const whole = posix.normalize(posix.join(base || ".", path)).replace(/\/+$/, "");
  if (path !== "" && !path.startsWith("/") && !/^\.{1,2}($|\/)/.test(whole)) return whole;
  throw new CloudletError(`${what}: ${JSON.stringify(path)} is not below the program's directory`, {
    code: "invalid-input",
    remedy: "write a path relative to it, such as data/in.csv",
  });
}
