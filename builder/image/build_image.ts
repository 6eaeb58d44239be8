/**
 * Making root images: see {@link ./image.ts}.
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { temporaryIn } from "../../base/files.ts";
import type { Progress } from "../../base/progress.ts";
import { cacheKey } from "../../base/store.ts";
import { finishSystemTree, newSystemTree } from "../base_tree.ts";
import { copyContent } from "../content.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import { writeErofs } from "../erofs/mod.ts";
import { ImageBudget, type ImageLimits } from "../limits.ts";
import { writeRef } from "../refs.ts";
import { DpkgDatabase } from "../system/dpkg_database.ts";
import { directoryNode, symlinkNode, type Tree } from "../tree.ts";
import { type Additions, additionsKey, applyAdditions, NO_ADDITIONS } from "./additions.ts";
import type { ImageDeclaration } from "./declarations.ts";
import { findByKey, FORMAT, type Image, imageInputs, imageStore, openImage } from "./image.ts";
import { initScript } from "./init.ts";
import type { ImageManifest } from "./manifest.ts";
import { addPayload, loadPayload, type Payload } from "./payload.ts";

/** What {@linkcode buildImage} needs. */
export interface ImageOptions {
  /** Where the packages come from. */
  readonly debian: Debian;
  /** Gets told how far it is. */
  readonly progress: Progress;
  /** What is added to it; nothing when absent. */
  readonly additions?: Additions | undefined;
  /** What it may take; the defaults when absent. */
  readonly limits?: ImageLimits | undefined;
  /** Ends the wait for another process that makes the image. */
  readonly signal?: AbortSignal | undefined;
}

/** Links every command that busybox knows to it, as `busybox --install -s` would. */
async function addApplets(tree: Tree): Promise<void> {
  const binary = tree.lookup("usr/bin/busybox");
  if (binary?.type !== "file") {
    throw new CloudletError("Cannot build the image: busybox-static holds no /bin/busybox", {
      code: "untrusted",
    });
  }
  using copy = temporaryIn(imageStore().root);
  await copyContent(binary.content, copy.path);
  await Deno.chmod(copy.path, 0o700);
  const { stdout } = await new Deno.Command(copy.path, { args: ["--list-full"] }).output();
  for (const path of new TextDecoder().decode(stdout).split("\n")) {
    if (path === "" || tree.lookup(path) !== undefined) continue;
    tree.add(path, symlinkNode("/usr/bin/busybox"));
  }
}

async function imageTree(
  declaration: ImageDeclaration,
  packages: readonly DebianPackage[],
  extra: Payload | undefined,
  options: ImageOptions,
): Promise<Tree> {
  const { debian, additions, limits } = options;
  using budget = new ImageBudget(declaration.name, limits);
  const tree = newSystemTree();
  const database = new DpkgDatabase();
  await debian.unpack(packages, tree, budget, database);
  for (const path of ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"]) {
    // As Debian's own slim images do; scripts of packages that are added later need the directories.
    if (tree.remove(path)) tree.add(path, directoryNode());
  }
  finishSystemTree(tree, database);
  if (declaration.busybox) await addApplets(tree);
  if (additions) await applyAdditions(tree, additions, budget);
  if (extra) {
    const binary = addPayload(tree, extra, initScript());
    if (declaration.deno) tree.add("usr/bin/deno", binary); // a hard link: one copy in the image
  }
  return tree;
}

/**
 * The declared image: from the cache, or made from packages of the archive as it is now.
 *
 * @throws {CloudletError} `not-found` for an unknown package, and whatever fetching and writing throw
 */
export async function buildImage(
  declaration: ImageDeclaration,
  options: ImageOptions,
): Promise<Image> {
  const { debian, progress, additions = NO_ADDITIONS } = options;
  const { name } = declaration;
  const packages = debian.resolve(declaration.packages, declaration);
  const extra = declaration.agent ? await loadPayload() : undefined;
  const key = cacheKey({
    format: FORMAT,
    declaration: { ...declaration },
    packages: packages.map(({ sha256 }) => sha256),
    agent: extra?.agent.sha256 ?? null,
    init: extra ? initScript() : null,
    deno: extra?.deno.sha256 ?? null,
    ...additionsKey(additions),
  });
  const manifest = {
    name,
    packages: packages.map(({ name, version, sha256 }) => ({ name, version, sha256 })),
    ...(extra && { deno: Deno.version.deno, agent: extra.agent.sha256 }),
  };
  await storeImage(
    key,
    { manifest, label: name, progress, signal: options.signal },
    (write) => imageTree(declaration, packages, extra, options).then(write),
  );
  await writeRef(imageStore(), name, await imageInputs(declaration, additions), key);
  return await openImage(key);
}

/** What {@linkcode storeImage} is told of an image. */
export interface StoreOptions {
  /** All of the manifest that is known before the image is written. */
  readonly manifest: Omit<ImageManifest, "size" | "sha256">;
  /** Name of the volume: at most 15 bytes. */
  readonly label: string;
  readonly progress: Progress;
  /** Ends the wait for another process that makes it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Has the image of a key in the store.
 *
 * @param make makes the tree and hands it over to be written, so that it can have an end of its own
 */
export async function storeImage(
  key: string,
  { manifest, label, progress, signal }: StoreOptions,
  make: (write: (tree: Tree) => Promise<void>) => Promise<void>,
): Promise<void> {
  const { name } = manifest;
  await findByKey(key); // a damaged one makes room
  await imageStore().getOrMake(
    key,
    async (directory) => {
      await make(async (tree) => {
        using task = progress.task(`Write the ${name} image`, { unit: "bytes" });
        const { size, sha256 } = await writeErofs(tree, join(directory, "root.erofs"), {
          label,
          onProgress: (bytes) => task.advance(bytes),
        });
        const whole: ImageManifest = { ...manifest, size, sha256 };
        await Deno.writeTextFile(
          join(directory, "manifest.json"),
          JSON.stringify(whole, undefined, 2) + "\n",
        );
        task.done();
      });
    },
    () => progress.info(`Another process makes the ${name} image; waiting for it`),
    signal,
  );
}
