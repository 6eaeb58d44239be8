/**
 * What there is in the cache: `<cache>/<kind>/`.
 *
 * ```text
 * <kind>/<key>/          an entry of a store; its time of modification is that of its last use
 *       .name-<name>     which entry a name means
 *       .<key>.lock      held while the entry is made
 * <kind>/<part>/<file>   an entry that is a file; used at its time of access or modification
 * <any>/.tmp-of-<id>/    something unfinished, locked by its owner
 * leases/<id>.json       what state needs of the cache: state_leases.ts
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { sameFile, waitForLock } from "../files.ts";

/** A kind of entries. */
export interface Kind {
  /** Name of its directory. */
  readonly name: string;
  /** What its entries are, in a few words. */
  readonly what: string;
  /** `directories` of a store, or `files`, which are in use together: see {@linkcode leaseFiles}. */
  readonly form: "directories" | "files";
}

/** All kinds. */
export const KINDS: readonly Kind[] = [
  { name: "images", what: "root images", form: "directories" },
  { name: "kernels", what: "guest kernels", form: "directories" },
  { name: "initramfs", what: "what the kernel starts first", form: "directories" },
  { name: "snapshots", what: "machines to restore", form: "directories" },
  { name: "workloads", what: "prepared programs", form: "directories" },
  { name: "layers", what: "what commands changed in images", form: "directories" },
  { name: "dependencies", what: "what was installed for programs", form: "directories" },
  { name: "toolchains", what: "compilers of kernels", form: "directories" },
  { name: "debian", what: "packages and their indexes", form: "files" },
  { name: "oci", what: "layers and tags of registries", form: "files" },
  { name: "downloads", what: "what installing packages fetched", form: "files" },
  { name: "agents", what: "left by earlier versions", form: "files" },
];

/**
 * Has all files of a kind stay while this is not disposed: a build uses hundreds of them.
 *
 * @param cache directory of the cache
 * @param signal ends the wait for a process that removes one of them
 */
export async function leaseFiles(
  cache: string,
  kind: "debian" | "oci",
  signal?: AbortSignal,
): Promise<Disposable> {
  const path = join(cache, kind);
  for (;;) {
    await Deno.mkdir(path, { recursive: true });
    using stack = new DisposableStack();
    const directory = stack.use(await Deno.open(path));
    await waitForLock(directory, signal, false);
    if (sameFile(directory, path)) return stack.move();
  }
}

/** Notes that a file of the cache is used now; what its time of modification says stays. */
export async function noteUse(path: string): Promise<void> {
  try {
    const { mtime } = await Deno.stat(path);
    await Deno.utime(path, new Date(), mtime ?? new Date());
  } catch {
    // it is gone, or somebody else's
  }
}
