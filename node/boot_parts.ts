/**
 * What a machine boots from, and what tells one such thing from another.
 *
 * @module
 */
import { leaseAll } from "../base/cache/lease.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { cacheKey, filesKey } from "../base/store.ts";
import type { ProgramConfig } from "../builder/oci/manifest.ts";
import type { BootFiles } from "../builder/artifacts.ts";
import type { MachineImage, MachineRequest } from "./node.ts";

/** What a machine boots from. */
export interface Parts extends BootFiles {
  /** Path of the root image. */
  readonly image: string;
  /** How the image wants its program started. */
  readonly program: ProgramConfig | undefined;
}

/** The language's own image as it is. */
export const PLAIN_IMAGE: MachineImage = { pull: false, insecure: false, files: [], run: [] };

/** Two requests with one key boot from the same. */
export function partsKey(
  { language, vcpus, packages, image }: Pick<
    MachineRequest,
    "language" | "vcpus" | "packages" | "image"
  >,
  kernel = "",
): string {
  const { version = "", from = "", pull, insecure, run, files, dependencies = "" } = image ??
    PLAIN_IMAGE;
  const source = { language, version, from, pull, insecure };
  const root = { ...source, packages, run, files: filesKey(files), dependencies };
  return cacheKey({ kernel, smp: vcpus > 1, root });
}

/** Paths of all files that a machine boots from. */
export function filesOf({ kernel, initramfs, image }: Parts): string[] {
  return [kernel, ...initramfs, image];
}

/**
 * Has what a machine boots from stay in the cache until this is disposed.
 *
 * @throws {CloudletError} `not-found` when some of it is gone
 */
export async function leaseParts(parts: Parts): Promise<Disposable> {
  const lease = await tryLeaseParts(parts);
  if (lease === undefined) throw partsGone();
  return lease;
}

/** As {@linkcode leaseParts}; undefined when some of it is gone. */
export async function tryLeaseParts(parts: Parts): Promise<Disposable | undefined> {
  return await leaseAll(filesOf(parts), cacheDir());
}

/** What a machine boots from was removed. */
export function partsGone(): CloudletError {
  return new CloudletError("Cannot start the machine: what it boots from was removed just now", {
    code: "not-found",
    remedy: "try again: it is made anew",
  });
}

/** What tells a file of the cache from others: entries are named by their content. */
export function fileOf(path: string): string {
  const { size, mtime } = Deno.statSync(path);
  return `${path} ${size} ${mtime?.getTime()}`;
}
