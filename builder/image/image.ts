/**
 * Root images: Debian packages, the agent and Deno in one EROFS file.
 *
 * ```text
 * <cache>/images/<key>/root.erofs      the image
 *                      manifest.json   what it was made from
 * <cache>/images/.name-python-<inputs> which key that name means with this agent and this Deno
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../../base/dirs.ts";
import { CloudletError } from "../../base/errors.ts";
import { temporaryIn } from "../../base/files.ts";
import type { Progress } from "../../base/progress.ts";
import { cacheKey, type KeyPart, Store } from "../../base/store.ts";
import { finishSystemTree, newSystemTree } from "../base_tree.ts";
import { copyContent } from "../content.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import { writeErofs } from "../erofs/mod.ts";
import { readPointer, writePointer } from "../pointers.ts";
import { directoryNode, type FileNode, fileNode, symlinkNode, type Tree } from "../tree.ts";
import type { ImageDeclaration } from "./declarations.ts";
import { HOME, initScript } from "./init.ts";
import { agentState, denoState, fileDigest } from "./inputs.ts";

const FORMAT = 1; // raise it when the same packages would give another tree

/** What an image was made from, as kept beside it. */
export interface ImageManifest {
  /** Name of the declaration. */
  readonly name: string;
  /** Size of the image in bytes. */
  readonly size: number;
  /** SHA-256 of the image, in hex. */
  readonly sha256: string;
  /** The packages inside. */
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly sha256: string;
  }[];
  /** Version of the Deno inside, when there is one. */
  readonly deno?: string;
  /** SHA-256 of the agent inside, when there is one. */
  readonly agent?: string;
}

/** A finished image. */
export interface Image {
  /** Name of the cache entry: the hash of everything that went in. */
  readonly key: string;
  /** Path of the EROFS file. */
  readonly path: string;
  /** What is inside. */
  readonly manifest: ImageManifest;
}

/** What {@linkcode buildImage} needs. */
export interface ImageOptions {
  /** Where the packages come from. */
  readonly debian: Debian;
  /** Gets told how far it is. */
  readonly progress: Progress;
}

/** The store of finished images. */
export function imageStore(): Store {
  return new Store(join(cacheDir(), "images"));
}

interface Payload {
  readonly agent: { readonly code: Uint8Array; readonly sha256: string };
  readonly deno: { readonly path: string; readonly size: number; readonly sha256: string };
}

async function payload(declaration: ImageDeclaration): Promise<Payload | undefined> {
  if (!declaration.agent) return undefined;
  const path = Deno.execPath();
  const { size } = await Deno.stat(path);
  const { bundleAgent } = await import("../../agent/bundle.ts"); // esbuild, which a run has no use for
  return { agent: await bundleAgent(), deno: { path, size, sha256: fileDigest(path) } };
}

function addPayload(tree: Tree, declaration: ImageDeclaration, { agent, deno }: Payload): void {
  const binary: FileNode = {
    ...directoryNode({ mode: 0o755 }),
    type: "file",
    content: { kind: "file", path: deno.path, offset: 0, size: deno.size },
  };
  tree.add(`${HOME}/deno`, binary);
  tree.add(`${HOME}/agent.js`, fileNode(agent.code));
  tree.add(`${HOME}/init`, fileNode(initScript(), { mode: 0o755 }));
  if (declaration.deno) tree.add("usr/bin/deno", binary); // a hard link: one copy in the image
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
  debian: Debian,
): Promise<Tree> {
  const tree = newSystemTree();
  await debian.unpack(packages, tree);
  finishSystemTree(tree);
  if (declaration.busybox) await addApplets(tree);
  for (const path of ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"]) {
    tree.remove(path); // as Debian's own slim images do
  }
  if (extra) addPayload(tree, declaration, extra);
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
  const { debian, progress } = options;
  const { name } = declaration;
  const packages = debian.resolve(declaration.packages);
  const extra = await payload(declaration);
  const key = cacheKey({
    format: FORMAT,
    declaration: { ...declaration },
    packages: packages.map(({ sha256 }) => sha256),
    agent: extra?.agent.sha256 ?? null,
    init: extra ? initScript() : null,
    deno: extra?.deno.sha256 ?? null,
  });
  const store = imageStore();
  await store.getOrMake(key, async (directory) => {
    const tree = await imageTree(declaration, packages, extra, debian);
    using task = progress.task(`Write the ${name} image`, { unit: "bytes" });
    const { size, sha256 } = await writeErofs(tree, join(directory, "root.erofs"), {
      label: name,
      onProgress: (bytes) => task.advance(bytes),
    });
    const manifest: ImageManifest = {
      name,
      size,
      sha256,
      packages: packages.map(({ name, version, sha256 }) => ({ name, version, sha256 })),
      ...(extra && { deno: Deno.version.deno, agent: extra.agent.sha256 }),
    };
    await Deno.writeTextFile(
      join(directory, "manifest.json"),
      JSON.stringify(manifest, undefined, 2) + "\n",
    );
    task.done();
  }, () => progress.info(`Another process makes the ${name} image; waiting for it`));
  await writePointer(store, name, await inputs(declaration), key);
  return await openImage(key);
}

async function inputs(declaration: ImageDeclaration): Promise<KeyPart> {
  return {
    format: FORMAT,
    declaration: { ...declaration },
    ...(declaration.agent && { agent: await agentState(), deno: await denoState() }),
  };
}

/** The declared image as it was last built with this agent and this Deno, if it was. */
export async function findImage(declaration: ImageDeclaration): Promise<Image | undefined> {
  const store = imageStore();
  const key = await readPointer(store, declaration.name, await inputs(declaration));
  return key === undefined ? undefined : await openImage(key);
}

/** The image of a cache key that {@linkcode imageStore} lists. */
export async function openImage(key: string): Promise<Image> {
  const directory = join(imageStore().root, key);
  const manifest = JSON.parse(await Deno.readTextFile(join(directory, "manifest.json")));
  return { key, path: join(directory, "root.erofs"), manifest: manifest as ImageManifest };
}
