/**
 * Directories for what a running microVM needs in the file system: its sockets.
 *
 * ```text
 * <runtime>/vm-<pid>-<id>/   removed with the VM; what a killed process left, by the next one
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { runtimeDir } from "../../base/dirs.ts";

const NAME = /^vm-(\d+)-/;

/** A directory that is removed when disposed. */
export interface Scratch extends Disposable {
  /** Absolute path. */
  readonly path: string;
}

/** Makes a directory that only this user can enter. */
export function makeScratch(): Scratch {
  const root = runtimeDir();
  Deno.mkdirSync(root, { recursive: true, mode: 0o700 });
  // The id is short: a Unix socket's path has at most 107 bytes (unix(7)).
  const id = crypto.getRandomValues(new Uint8Array(6)).toHex();
  const path = join(root, `vm-${Deno.pid}-${id}`);
  Deno.mkdirSync(path, { mode: 0o700 });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

let swept = false;

/** Removes what killed processes left; once in a process. */
export function sweepScratch(): void {
  if (swept) return;
  swept = true;
  const root = runtimeDir();
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(root), ({ name }) => name);
  } catch {
    return; // no directory, nothing left
  }
  for (const name of names) {
    const pid = NAME.exec(name)?.[1];
    if (pid === undefined || isAlive(pid)) continue;
    try {
      Deno.removeSync(join(root, name), { recursive: true });
    } catch {
      // somebody else removes it at the same time
    }
  }
}

function isAlive(pid: string): boolean {
  try {
    Deno.statSync(`/proc/${pid}`);
    return true;
  } catch {
    return false;
  }
}
