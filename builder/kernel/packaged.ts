/**
 * Debian's own kernel for cloud machines, out of its package: nothing is compiled. It needs a KVM
 * that runs a kernel's code on the processor; on a software-only one it takes minutes to boot.
 *
 * ```text
 * <cache>/kernels/<key>/vmlinux        ELF kernel
 *                       modules.cpio   modules that the guest needs: a second initramfs
 *                       manifest.json  what it was made from
 * ```
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { writeAllSync } from "../../base/files.ts";
import type { Progress } from "../../base/progress.ts";
import { cacheKey } from "../../base/store.ts";
import { decompress } from "../archive/decompress.ts";
import { contentBytes } from "../content.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import { cpioArchive, type CpioEntry } from "../initramfs/cpio.ts";
import { MODULES_DIRECTORY, MODULES_LIST } from "../initramfs/mod.ts";
import { readRef, writeRef } from "../refs.ts";
import { type Content, type DirectoryNode, type FileNode, Tree } from "../tree.ts";
import { findByKey, type Kernel, kernelStore, openKernel } from "./kernel.ts";
import { moduleName, type ModuleSource, orderModules } from "./modules.ts";
import { KERNEL_SUITE } from "./suite.ts";
import { unpackVmlinux } from "./vmlinuz.ts";

const FORMAT = 1; // of the cache entry; raise it when the same package would give another
const NAME = "debian";
/** Depends on the kernel of the day. */
const PACKAGE = "linux-image-cloud-amd64";
const IMAGE = /^linux-image-\d[\w.+-]*-cloud-amd64$/;

/** What a guest uses that Debian's kernel does not have built in. */
const MODULES = [
  ...["virtio_mmio", "virtio_blk", "virtio_console", "virtio_balloon", "virtio-rng"],
  ...["failover", "net_failover", "virtio_net"],
  ...["nd_pmem", "virtio_pmem", "erofs", "overlay", "vmw_vsock_virtio_transport"],
];
const MAX_MODULE = 64 * 1024 * 1024; // bytes

const INPUTS = { format: FORMAT, suite: KERNEL_SUITE, package: PACKAGE, modules: MODULES };

/** What {@linkcode unpackKernel} needs. */
export interface PackagedKernelOptions {
  /** Where the package comes from: see {@linkcode openKernelArchive}. */
  readonly debian: Debian;
  /** Gets told how far it is. */
  readonly progress: Progress;
}

function missing(what: string): CloudletError {
  return new CloudletError(`Cannot use Debian's kernel: ${what}`, {
    code: "not-found",
    remedy: 'use the kernel that cloudlet builds: kernel = "built"',
  });
}

function directory(tree: Tree, paths: readonly string[], item: DebianPackage): DirectoryNode {
  for (const path of paths) {
    const node = tree.lookup(path);
    if (node?.type === "directory") return node;
  }
  throw missing(`${item.name} holds no ${paths[0]}`);
}

async function unpackModule(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream();
  return concatBytes(await Array.fromAsync(decompress(stream, { name, limit: MAX_MODULE })));
}

/** The modules below `root`, by the names that the kernel knows them by. */
function moduleSource(root: DirectoryNode): ModuleSource {
  const files = new Map<string, FileNode>();
  const walk = (node: DirectoryNode) => {
    for (const [name, child] of node.children) {
      if (child.type === "directory") walk(child);
      else if (child.type === "file" && /\.ko(\.\w+)?$/.test(name)) {
        files.set(moduleName(name), child);
      }
    }
  };
  walk(root);
  const list = root.children.get("modules.builtin");
  const text = list?.type === "file" ? new TextDecoder().decode(contentBytes(list.content)) : "";
  const builtIn = new Set(
    text.split("\n").filter((path) => path !== "").map((path) =>
      moduleName(path.slice(path.lastIndexOf("/") + 1))
    ),
  );
  return {
    async read(name) {
      const file = files.get(name);
      if (file === undefined) return undefined;
      return await unpackModule(contentBytes(file.content), name);
    },
    builtIn: (name) => builtIn.has(name),
  };
}

/**
 * A second initramfs: the modules that are wanted, what they need, and in which order /init inserts
 * them.
 */
export async function modulesArchive(
  wanted: readonly string[],
  source: ModuleSource,
): Promise<Uint8Array> {
  const modules = await orderModules(wanted, source);
  const list = modules.map(({ name }) => `${name}\n`).join("");
  const parents = MODULES_DIRECTORY.split("/").map((_, i, names): CpioEntry => ({
    type: "directory",
    path: names.slice(0, i + 1).join("/"),
    mode: 0o755,
  }));
  return await cpioArchive([
    ...parents,
    ...modules.map(({ name, bytes }): CpioEntry => ({
      type: "file",
      path: `${MODULES_DIRECTORY}/${name}.ko`,
      mode: 0o644,
      content: bytes,
    })),
    {
      type: "file",
      path: `${MODULES_DIRECTORY}/${MODULES_LIST}`,
      mode: 0o644,
      content: new TextEncoder().encode(list),
    },
  ]);
}

/** What is in a kernel package. */
export interface KernelPackage {
  /** The compressed kernel. */
  readonly vmlinuz: { readonly name: string; readonly content: Content };
  /** Its modules. */
  readonly modules: ModuleSource;
}

/** The package of the kernel that the archive has now. */
export function kernelPackage(debian: Debian): DebianPackage {
  const image = debian.resolve([PACKAGE], { essential: false })
    .find(({ name }) => IMAGE.test(name));
  if (image === undefined) throw missing(`the archive's ${PACKAGE} leads to no kernel`);
  return image;
}

/** Opens the kernel package `image`, by default the one that the archive has now. */
export async function openKernelPackage(
  debian: Debian,
  image: DebianPackage = kernelPackage(debian),
): Promise<KernelPackage> {
  const tree = new Tree();
  await debian.unpack([image], tree);
  const release = image.name.slice("linux-image-".length);
  const name = `vmlinuz-${release}`;
  const vmlinuz = directory(tree, ["boot"], image).children.get(name);
  if (vmlinuz?.type !== "file") throw missing(`${image.name} holds no ${name}`);
  // From Debian 13 on packages have their files in /usr.
  const places = [`lib/modules/${release}`, `usr/lib/modules/${release}`];
  return {
    vmlinuz: { name, content: vmlinuz.content },
    modules: moduleSource(directory(tree, places, image)),
  };
}

/**
 * Debian's kernel as the archive has it now: from the cache, or unpacked.
 *
 * @throws {CloudletError} `not-found` when the archive has none, or the kernel lacks a module
 */
export async function unpackKernel(options: PackagedKernelOptions): Promise<Kernel> {
  const { debian, progress } = options;
  const image = kernelPackage(debian);
  const key = cacheKey({ ...INPUTS, image: image.sha256 });
  await findByKey(key); // a damaged one makes room
  await kernelStore().getOrMake(key, async (entry) => {
    const { vmlinuz, modules } = await openKernelPackage(debian, image);
    using task = progress.task("Unpack the kernel");
    {
      using file = await Deno.open(join(entry, "vmlinux"), { createNew: true, write: true });
      for await (const piece of unpackVmlinux(contentBytes(vmlinuz.content), vmlinuz.name)) {
        writeAllSync(file, piece);
      }
    }
    const archive = await modulesArchive(MODULES, modules);
    await Deno.writeFile(join(entry, "modules.cpio"), archive);
    await Deno.writeTextFile(
      join(entry, "manifest.json"),
      JSON.stringify({ version: image.version, package: image.name, modules: true }, undefined, 2),
    );
    task.done();
  }, () => progress.info("Another process unpacks this kernel; waiting for it"));
  await writeRef(kernelStore(), NAME, INPUTS, key);
  return await openKernel(key);
}

/** Debian's kernel as it was last unpacked, if it was. */
export async function findUnpackedKernel(): Promise<Kernel | undefined> {
  const key = await readRef(kernelStore(), NAME, INPUTS);
  return key === undefined ? undefined : await findByKey(key);
}
