/**
 * Lists of files, as requests hold them.
 *
 * @module
 */
import type { File } from "../proto/gen/cloudlet/agent/agent_pb.ts";

/** What a message of a file says, wherever it comes from. */
export type FileLike = Pick<File, "path" | "mode" | "content"> & Partial<File>;

/** Whether two lists have the same files in the same order. */
export function sameFiles(a: readonly File[], b: readonly File[]): boolean {
  if (a.length !== b.length) return false;
  return a.every((file, i) => {
    const other = b[i]!;
    return file.path === other.path && file.mode === other.mode && file.target === other.target &&
      file.directory === other.directory && file.content.length === other.content.length &&
      file.content.every((byte, j) => byte === other.content[j]);
  });
}

/** Whether it is neither a link nor a directory. */
export function isRegular(file: FileLike): boolean {
  return !file.target && !file.directory;
}

const MAX_LINKS = 40; // as Linux: include/linux/namei.h MAXSYMLINKS
/** Names on the way of a path, links included: a client may send links that never end. */
const MAX_STEPS = 512;

/**
 * The regular file that a path leads to, with symbolic links followed.
 *
 * @param files of one workload, by their paths
 * @param path relative to the workload's directory
 * @returns undefined when there is none, or when the way leads out of the directory
 */
export function fileAt<T extends FileLike>(
  files: ReadonlyMap<string, T>,
  path: string,
): T | undefined {
  const pending = path.split("/").reverse();
  const names: string[] = [];
  let links = 0;
  let steps = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (++steps > MAX_STEPS) return undefined;
    if (name === "" || name === ".") continue;
    if (name === "..") {
      if (names.pop() === undefined) return undefined;
      continue;
    }
    names.push(name);
    const target = files.get(names.join("/"))?.target;
    if (!target) continue;
    if (target.startsWith("/") || ++links > MAX_LINKS) return undefined;
    names.pop();
    pending.push(...target.split("/").reverse());
  }
  const file = files.get(names.join("/"));
  return file !== undefined && isRegular(file) ? file : undefined;
}

/** The list as a workload's language sees it. */
export interface ListedFiles {
  /** Paths of the files and links. */
  readonly files: readonly string[];
  /** Text of a file; undefined when there is none. */
  read(path: string): string | undefined;
}

/** The files of a workload as its language sees them; see {@linkcode ListedFiles}. */
export function listedFiles(files: readonly File[]): ListedFiles {
  const byPath = new Map(files.map((file) => [file.path, file]));
  return {
    files: files.filter(({ directory }) => !directory).map(({ path }) => path),
    read(path) {
      const file = fileAt(byPath, path);
      return file && new TextDecoder().decode(file.content);
    },
  };
}
