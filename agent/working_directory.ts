/**
 * The working directory that an image names, made as docker makes it.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import { directoryError } from "./find_program.ts";

const MAX_LINKS = 40; // as Linux: include/linux/namei.h MAXSYMLINKS

/**
 * Makes a directory with those above it, unless it is there. Where a link leads to nothing, that is
 * made.
 *
 * @param directory absolute
 * @throws {CloudletError} `invalid-input` when it cannot be one
 */
export function makeWorkingDirectory(directory: string): void {
  const pending = directory.split("/").reverse();
  let here = "";
  let links = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      here = here.slice(0, Math.max(0, here.lastIndexOf("/")));
      continue;
    }
    const path = `${here}/${name}`;
    try {
      const info = lstatIfAny(path);
      if (info?.isSymlink) {
        if (++links > MAX_LINKS) throw directoryError(directory, "too many links lead to it");
        const target = Deno.readLinkSync(path);
        if (target.startsWith("/")) here = "";
        pending.push(...target.split("/").reverse());
        continue;
      }
      if (info === undefined) Deno.mkdirSync(path, { mode: 0o755 });
      else if (!info.isDirectory) {
        const isLast = pending.every((name) => name === "" || name === ".");
        throw directoryError(directory, `${isLast ? "it" : path} is not a directory`);
      }
    } catch (error) {
      if (error instanceof CloudletError) throw error;
      throw directoryError(directory, messageOf(error));
    }
    here = path;
  }
}

function lstatIfAny(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
