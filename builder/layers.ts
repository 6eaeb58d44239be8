/**
 * Layers that are put over images: what commands changed, and what was installed for programs, below
 * {@linkcode DEPENDENCIES}.
 *
 * ```text
 * <cache>/layers/<key>/layer.tar
 * <cache>/dependencies/<key>/layer.tar
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { cacheKey, Store } from "../base/store.ts";
import { DEPENDENCIES } from "../workload/dependencies/paths.ts";
import { type AddedFile, type AddedLayer, additionsKey } from "./image/additions.ts";
import type { Image } from "./image/image.ts";
import type { ImageBudget } from "./limits.ts";

/** Name of a layer's archive in its entry. */
export const LAYER = "layer.tar";

/** Runs commands in an image and writes what they changed, as a layer, to a new file. */
export type ChangeMaker = (
  image: Image,
  run: readonly string[],
  path: string,
  budget: ImageBudget,
) => Promise<void>;

/** What commands changed. */
export function changeStore(): Store {
  return new Store(join(cacheDir(), "layers"));
}

/** Names what a request's commands change: not the image, whose agent makes no difference to it. */
export function changesKey(
  { manifest }: Image,
  { files, run }: { readonly files: readonly AddedFile[]; readonly run: readonly string[] },
): string {
  return cacheKey({
    format: 1,
    from: manifest.from?.digest ?? null,
    packages: manifest.packages.map(({ sha256 }) => sha256),
    ...additionsKey({ files, layers: [] }),
    run,
  });
}

/** What was installed. */
export function dependencyStore(): Store {
  return new Store(join(cacheDir(), "dependencies"));
}

/** The entry of a key. @throws {CloudletError} `not-found` when it was removed */
export async function installedEntry(key: string): Promise<{ key: string; path: string }> {
  const path = await dependencyStore().get(key);
  if (path !== undefined) return { key, path };
  throw new CloudletError("Cannot find what was installed for the program: it was removed", {
    code: "not-found",
    remedy: "try again: it is installed anew",
  });
}

/** The layer of an entry; it may change nothing outside of its directory. */
export function installedLayer({ key, path }: { key: string; path: string }): AddedLayer {
  return { key, path: join(path, LAYER), below: DEPENDENCIES.slice(1) };
}
