/**
 * Building and finding for the commands that do only that.
 *
 * @module
 */
import { type Builder, withBuilder } from "../builder/artifacts.ts";
import { withProgress } from "./context.ts";

/** Has `work` build or find, with progress shown; what it finds stays in the cache meanwhile. */
export async function withBuilt<T>(work: (builder: Builder) => Promise<T>): Promise<T> {
  return await withProgress((options) => withBuilder(options, work));
}
