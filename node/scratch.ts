/**
 * Directories for what a running microVM needs in the file system: its sockets.
 *
 * ```text
 * <runtime>/vm-<pid>-<id>/   removed with the VM or its process; what a killed one left, by the next
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { runtimeDir } from "../base/dirs.ts";
import { makePrivateDirectory, processLives, removeAtEnd } from "../base/files.ts";

const NAME = /^vm-(\d+)-/;

/** A directory that is removed when disposed. */
export interface Scratch extends Disposable {
  /** Absolute path. */
  readonly path: string;
}

/**
 * Makes a directory that only this user can enter.
 *
 * @throws {CloudletError} `host` when the directory for it is not this user's alone
 */
export function makeScratch(): Scratch {
  const root = runtimeDir();
  makePrivateDirectory(root);
  // The id is short: a Unix socket's path has at most 107 bytes (unix(7)).
  const id = crypto.getRandomValues(new Uint8Array(6)).toHex();
  const path = join(root, `vm-${Deno.pid}-${id}`);
  const removal = removeAtEnd(path);
  Deno.mkdirSync(path, { mode: 0o700 });
  return { path, ...removal };
}

let swept = false;

/** Removes what killed processes left; once in a process. */
export function sweepScratch(): void {
  if (swept) return;
  swept = true;
  const root = runtimeDir();
  makePrivateDirectory(root); // nothing is removed below what is not ours
  for (const name of Array.from(Deno.readDirSync(root), ({ name }) => name)) {
    const pid = NAME.exec(name)?.[1];
    if (pid === undefined || processLives(Number(pid))) continue;
    try {
      Deno.removeSync(join(root, name), { recursive: true });
    } catch {
      // somebody else removes it at the same time
    }
  }
}
