/**
 * Root images: Debian packages, the agent and Deno in one EROFS file. They are found here; a run that
 * finds its image does not load what makes one ({@link ./build_image.ts}).
 *
 * ```text
 * <cache>/images/<key>/root.erofs      the image
 *                      manifest.json   what it was made from
 * <cache>/images/.name-python-<inputs> which key that name means with this agent and this Deno;
 *                                      of an OCI image, .name-oci-<inputs>
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../../base/dirs.ts";
import { type KeyPart, Store } from "../../base/store.ts";
import { isFile } from "../archive/files.ts";
import { readRef } from "../refs.ts";
import { type Additions, additionsKey, NO_ADDITIONS } from "./additions.ts";
import { AGENT_SHA256 } from "./agent/digest.ts";
import type { ImageDeclaration } from "./declarations.ts";
import { initScript } from "./init.ts";
import { denoState } from "./inputs.ts";
import { damagedImage, type ImageManifest, readManifest } from "./manifest.ts";

export type { ImageManifest } from "./manifest.ts";

/** To be raised when the same packages would give another tree. */
export const FORMAT = 3;

/** A finished image. */
export interface Image {
  /** Name of the cache entry: the hash of everything that went in. */
  readonly key: string;
  /** Path of the EROFS file. */
  readonly path: string;
  /** What is inside. */
  readonly manifest: ImageManifest;
}

/** The store of finished images. */
export function imageStore(): Store {
  return new Store(join(cacheDir(), "images"));
}

/** What an image's name stands for, besides what the archive has: with this agent and this Deno. */
export async function imageInputs(
  declaration: ImageDeclaration,
  additions: Additions,
): Promise<KeyPart> {
  return {
    format: FORMAT,
    declaration: { ...declaration },
    ...(declaration.agent &&
      { agent: AGENT_SHA256, deno: await denoState(), init: initScript() }),
    ...additionsKey(additions),
  };
}

/** The declared image as it was last built with this agent and this Deno, if it was. */
export async function findImage(
  declaration: ImageDeclaration,
  additions: Additions = NO_ADDITIONS,
): Promise<Image | undefined> {
  const store = imageStore();
  const key = await readRef(store, declaration.name, await imageInputs(declaration, additions));
  return key === undefined ? undefined : await findByKey(key);
}

/** The image of a key, if there is a good one; a damaged one is removed. */
export async function findByKey(key: string): Promise<Image | undefined> {
  return await imageStore().read(key, () => openImage(key));
}

/**
 * The image of a cache key that {@linkcode imageStore} lists.
 *
 * @throws {DamagedEntry} when it is not what it was when it was made
 */
export async function openImage(key: string): Promise<Image> {
  const directory = join(imageStore().root, key);
  const manifest = await readManifest(directory, key);
  const path = join(directory, "root.erofs");
  if (await isFile(path, manifest.size)) return { key, path, manifest };
  throw damagedImage(key, "its root.erofs is gone, or has another size");
}
