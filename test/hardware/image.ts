/**
 * A host with hardware KVM as a disk image, made with cloudlet's own builder: Debian packages, Deno,
 * this checkout, and every package that cloudlet will want to fetch there, since it has no network.
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../../base/dirs.ts";
import type { Progress } from "../../base/progress.ts";
import { finishSystemTree, newSystemTree } from "../../builder/base_tree.ts";
import { type Debian, type DebianPackage, openDebian } from "../../builder/debian/debian.ts";
import { writeErofs } from "../../builder/erofs/mod.ts";
import { imageDeclaration } from "../../builder/image/declarations.ts";
import { DEFAULT_SUITE } from "../../builder/image/versions.ts";
import type { KernelVariant } from "../../builder/kernel/config.ts";
import { kernelPackage, modulesArchive, openKernelPackage } from "../../builder/kernel/packaged.ts";
import { openKernelArchive } from "../../builder/kernel/suite.ts";
import { directoryNode, type FileNode, fileNode, type Tree } from "../../builder/tree.ts";
import { Builder } from "../../builder/artifacts.ts";
import { examples, runByHand, runsHere } from "../examples.ts";
import { checkoutPath, denoDir } from "../paths.ts";

/** Where things are in the host. */
export const HOST = {
  checkout: "cloudlet",
  denoDir: "var/cache/deno",
  cache: "var/cache/cloudlet",
  kernels: "srv/kernels",
  /** What the examples print on the machine that made this one. */
  expected: "srv/expected",
} as const;

const PACKAGES = [
  ...["libc6", "libgcc-s1", "dash", "bash", "coreutils", "grep", "mount", "e2fsprogs"],
  ...["debian-archive-keyring", "busybox-static"],
  ...["gcc", "libc6-dev", "erofs-utils", "procps", "tar", "gzip"], // what the guest tests use
];
/** What the tests of the network use besides. */
const NETWORK_PACKAGES = [
  ...["util-linux", "iproute2", "git", "tcpdump", "openssl", "python3-minimal", "curl"],
];
/** The host's own devices are on a PCI bus; irqbypass and kvm come along. */
const MODULES = ["virtio_pci", "virtio_blk", "erofs", "overlay", "kvm-amd"];

/** An image that shall be built in the host. */
export interface WantedImage {
  readonly language: string;
  /** Debian packages besides the language's own. */
  readonly packages?: readonly string[];
}

/** What QEMU boots. */
export interface HostImage {
  /** Kernel with a PVH entry. */
  readonly kernel: string;
  /** Initramfs archives; the caller adds one with what shall be done. */
  readonly initramfs: readonly Uint8Array[];
  /** The root image. */
  readonly root: string;
}

function fileFrom(path: string): FileNode {
  const { size, mtime, mode } = Deno.statSync(path);
  return {
    ...directoryNode({
      mode: (mode ?? 0o644) & 0o777,
      mtime: Math.floor((mtime?.getTime() ?? 0) / 1000),
    }),
    type: "file",
    content: { kind: "file", path, offset: 0, size },
  };
}

/** As {@linkcode fileFrom}, with the bytes as they are now: for files that somebody may edit. */
function copyOf(path: string): FileNode {
  return fileNode(Deno.readFileSync(path), { mode: 0o644 });
}

/** Adds a directory of this machine with all that is in it. */
function addDirectory(
  tree: Tree,
  from: string,
  to: string,
  wanted: (name: string) => boolean = () => true,
  file: (path: string) => FileNode = fileFrom,
): void {
  for (const { name, isDirectory, isFile } of Deno.readDirSync(from)) {
    if (!wanted(name)) continue;
    if (isDirectory) addDirectory(tree, join(from, name), `${to}/${name}`, wanted, file);
    else if (isFile) tree.add(`${to}/${name}`, file(join(from, name)));
  }
}

/** The npm packages that deno.lock names, out of this machine's cache. */
async function addNpmCache(tree: Tree): Promise<void> {
  const lock = JSON.parse(await Deno.readTextFile(checkoutPath("../deno.lock")));
  const registries = join(denoDir(), "npm");
  for (const { name: registry, isDirectory } of Deno.readDirSync(registries)) {
    if (!isDirectory) continue;
    const to = `${HOST.denoDir}/npm/${registry}`;
    for (const id of Object.keys(lock.npm)) {
      const [, name, version] = /^(@?[^@]+)@([^_]+)/.exec(id)!;
      const from = join(registries, registry, name!);
      try {
        addDirectory(tree, join(from, version!), `${to}/${name}/${version}`);
        tree.add(`${to}/${name}/registry.json`, fileFrom(join(from, "registry.json")));
      } catch (error) {
        // a package for another kind of machine
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  }
}

/** Everything that cloudlet will ask the archive for: verified releases, indexes, packages. */
async function addArchive(
  tree: Tree,
  debian: Debian,
  kernels: Debian,
  images: readonly WantedImage[],
): Promise<void> {
  const wanted = new Map<string, DebianPackage>();
  for (const { language, packages } of images) {
    const declaration = imageDeclaration(language, packages);
    for (const item of debian.resolve(declaration.packages, declaration)) {
      wanted.set(item.sha256, item);
    }
  }
  const kernel = kernelPackage(kernels);
  const files = new Map([
    ...await debian.fetch([...wanted.values()]),
    ...await kernels.fetch([kernel]),
  ]);
  wanted.set(kernel.sha256, kernel);
  const cache = `${HOST.cache}/debian`;
  for (const { name, sha256 } of wanted.values()) {
    tree.add(`${cache}/pool/${sha256}.deb`, fileFrom(files.get(name)!));
  }
  for (const part of ["release", "index"]) {
    const visible = (name: string) => !name.startsWith(".");
    addDirectory(tree, join(cacheDir(), "debian", part), `${cache}/${part}`, visible);
  }
  // The archive's addresses are this machine's, and so are the names under which it is cached.
  for (const path of ["/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/debian_version"]) {
    try {
      if (Deno.statSync(path).isDirectory) addDirectory(tree, path, path.slice(1));
      else tree.add(path.slice(1), fileFrom(path));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  tree.remove("etc/os-release");
  tree.add("etc/os-release", fileNode(await Deno.readTextFile("/etc/os-release")));
}

/**
 * Makes the host.
 *
 * @param directory where the root image goes
 * @param images those that shall be built there
 * @param variants compiled kernels that it brings along
 * @param network whether it is to test guests' network
 */
export async function makeHost(
  directory: string,
  images: readonly WantedImage[],
  variants: readonly KernelVariant[],
  progress: Progress,
  network: boolean,
): Promise<HostImage> {
  // so that they are young enough in there
  const debian = await openDebian({ suite: DEFAULT_SUITE, progress, maxAge: 0 });
  const kernels = await openKernelArchive({ progress, maxAge: 0 });
  const tree = newSystemTree();
  const packages = [...PACKAGES, ...(network ? NETWORK_PACKAGES : [])];
  await debian.unpack(debian.resolve(packages), tree);
  finishSystemTree(tree);
  const deno: FileNode = { ...fileFrom(Deno.execPath()), mode: 0o755 };
  tree.add("usr/bin/deno", deno);
  addDirectory(tree, checkoutPath("../"), HOST.checkout, (name) => name !== ".git", copyOf);
  await addNpmCache(tree);
  await addArchive(tree, debian, kernels, images);
  for (const example of examples()) {
    if (!await runsHere(example)) continue;
    const { stdout, code } = await runByHand(example);
    tree.add(`${HOST.expected}/${example.name}`, fileNode(new Uint8Array(stdout)));
    tree.add(`${HOST.expected}/${example.name}.code`, fileNode(String(code)));
  }

  const builder = new Builder({ progress });
  for (const variant of variants) {
    const { vmlinux } = await builder.kernel(variant);
    tree.add(`${HOST.kernels}/${variant}`, fileFrom(vmlinux));
  }
  const root = join(directory, "root.erofs");
  await writeErofs(tree, root, { label: "host" });
  const { modules } = await openKernelPackage(kernels);
  return {
    kernel: (await builder.debianKernel()).vmlinux,
    initramfs: [
      await Deno.readFile(await builder.initramfs()),
      await modulesArchive(MODULES, modules),
    ],
    root,
  };
}
