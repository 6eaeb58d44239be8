/**
 * Directories for what a running microVM needs in the file system: its sockets.
 *
 * ```text
 * <runtime>/vm-<id>/   removed with the VM; what a killed process left, by the next process
 * ```
 *
 * @module
 */
import { runtimeDir } from "../base/dirs.ts";
import {
  makeOwnedDirectory,
  makePrivateDirectory,
  type OwnedDirectory,
  sweepOwned,
} from "../base/files.ts";

const PREFIX = "vm-";

/**
 * Makes a directory that only this user can enter, and that is removed when disposed.
 *
 * @throws {CloudletError} `host` when the directory for it is not this user's alone
 */
export function makeScratch(): OwnedDirectory {
  const root = runtimeDir();
  makePrivateDirectory(root);
  return makeOwnedDirectory(root, PREFIX);
}

let swept = false;

/** Removes what killed processes left; once in a process. */
export function sweepScratch(): void {
  if (swept) return;
  swept = true;
  const root = runtimeDir();
  makePrivateDirectory(root); // nothing is removed below what is not ours
  sweepOwned(root, PREFIX);
}
