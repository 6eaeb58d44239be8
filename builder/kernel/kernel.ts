/**
 * The guest's kernel, compiled from Debian's source package with a compiler that comes from Debian
 * packages too: the host needs neither.
 *
 * ```text
 * <cache>/toolchains/<key>/root/       the compiler's root file system
 * <cache>/kernels/<key>/vmlinux        ELF kernel with its symbols
 *                       config         the final .config
 *                       System.map     addresses by name, to read a crash
 *                       build.log      what make said
 *                       manifest.json  what it was made from
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { hostResources } from "../../base/control_group.ts";
import type { Lease } from "../../base/cache/lease.ts";
import { cacheDir } from "../../base/dirs.ts";
import { CloudletError } from "../../base/errors.ts";
import { readTextIfAny, writeAllSync } from "../../base/files.ts";
import type { Progress } from "../../base/progress.ts";
import { cacheKey, DamagedEntry, type KeyPart, Store } from "../../base/store.ts";
import { isFile } from "../archive/files.ts";
import { finishSystemTree, newSystemTree } from "../base_tree.ts";
import { copyContent } from "../content.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import { extractTree } from "../extract.ts";
import { readRef, writeRef } from "../refs.ts";
import { runInRoot } from "../sandbox.ts";
import { Tree } from "../tree.ts";
import { checkConfig, configFragments, type KernelVariant, PATCHES } from "./config.ts";

const FORMAT = 1; // of the cache entry; raise it when the way of building changes
const SOURCE_PACKAGE = "linux-source-6.1";
const TOOLCHAIN = [
  ...["gcc", "libc6-dev", "make", "flex", "bison", "bc", "libelf-dev", "patch"],
  ...["tar", "xz-utils", "gzip", "dash", "coreutils", "sed", "grep", "mawk", "findutils"],
  ...["diffutils", "busybox-static"],
];

/** A finished kernel. */
export interface Kernel {
  /** Name of the cache entry: the hash of everything that went in. */
  readonly key: string;
  /** Path of the ELF file. */
  readonly vmlinux: string;
  /** Path of an initramfs with the modules that the kernel needs; undefined when it has none. */
  readonly modules?: string;
  /** Version of the Debian package. */
  readonly version: string;
}

/** What {@linkcode buildKernel} needs. */
export interface KernelOptions {
  /** Where the packages come from. */
  readonly debian: Debian;
  /** `up` (the default) for one vCPU, `smp` for up to 64. */
  readonly variant?: KernelVariant;
  /** Gets told how far it is. */
  readonly progress: Progress;
  /** Ends the build; nothing half-made stays. */
  readonly signal?: AbortSignal | undefined;
}

/** The store of finished kernels. */
export function kernelStore(): Store {
  return new Store(join(cacheDir(), "kernels"));
}

// Left out when unpacking, as nothing in an x86 microVM kernel is made from it: less than half of
// the source is written to disk. Kconfig files all stay, since the top one includes them.
const UNUSED_SOURCE = [
  ...["drivers/gpu", "drivers/media", "drivers/staging", "drivers/net/ethernet", "sound"]
    .map((directory) => `*/${directory}/*.[chS]`),
  ...["alpha", "arc", "arm", "arm64", "csky", "hexagon", "ia64", "loongarch", "m68k"]
    .map((architecture) => `linux-source-*/arch/${architecture}/*.[chS]`),
  ...["microblaze", "mips", "nios2", "openrisc", "parisc", "powerpc", "riscv", "s390", "sh"]
    .map((architecture) => `linux-source-*/arch/${architecture}/*.[chS]`),
  ...["sparc", "xtensa"].map((architecture) => `linux-source-*/arch/${architecture}/*.[chS]`),
  "*/Documentation/*/*",
  "*/tools/testing/*",
  "*.dts",
  "*.dtsi",
];

const SCRIPT = `
set -e
cd /build
mkdir linux
echo "cloudlet: unpack"
set -f
exclude=
for pattern in $UNUSED_SOURCE; do exclude="$exclude --exclude=$pattern"; done
tar --extract --xz --file=source.tar.xz --strip-components=1 --directory=linux $exclude
set +f
cd linux
for patch in ../*.patch; do patch --strip=1 --input="$patch"; done
echo "cloudlet: configure"
make tinyconfig
scripts/kconfig/merge_config.sh -m .config ../*.config
make olddefconfig
cp .config ../config
echo "cloudlet: compile"
make --jobs="$JOBS" vmlinux
cp vmlinux System.map ..
`;

/** Packages of `packages` that have one of the `names`, or an error that names the missing one. */
function only(packages: readonly DebianPackage[], name: string): DebianPackage {
  const found = packages.find((candidate) => candidate.name === name);
  if (found === undefined) {
    throw new CloudletError(`Cannot build the kernel: the archive has no package ${name}`, {
      code: "not-found",
      remedy: "choose a Debian suite that has it ([debian] suite in the settings)",
    });
  }
  return found;
}

async function toolchain(
  debian: Debian,
  packages: readonly DebianPackage[],
  progress: Progress,
): Promise<Lease> {
  const store = new Store(join(cacheDir(), "toolchains"));
  const key = cacheKey({ format: FORMAT, packages: packages.map(({ sha256 }) => sha256) });
  const make = async (directory: string) => {
    const tree = newSystemTree();
    await debian.unpack(packages, tree);
    finishSystemTree(tree);
    using task = progress.task("Unpack the compiler");
    await extractTree(tree, join(directory, "root"));
    task.done();
  };
  for (;;) {
    const waits = () => progress.info("Another process unpacks the compiler; waiting for it");
    await store.getOrMake(key, make, waits);
    const lease = await store.lease(key);
    if (lease !== undefined) return lease; // otherwise somebody cleaned the cache just now
  }
}

/**
 * The kernel for a variant: from the cache, or compiled, which takes minutes.
 *
 * @throws {CloudletError} `host` or `internal` when it cannot be built; the log's path is named
 */
export async function buildKernel(options: KernelOptions): Promise<Kernel> {
  const { debian, progress, variant = "up" } = options;
  const tools = debian.resolve(TOOLCHAIN, { essential: false });
  const source = only(debian.resolve([SOURCE_PACKAGE]), SOURCE_PACKAGE);
  const fragments = configFragments(variant);
  const key = cacheKey({
    format: FORMAT,
    source: source.sha256,
    fragments,
    patches: PATCHES,
    script: SCRIPT,
    tools: tools.map(({ sha256 }) => sha256),
  });
  await findByKey(key); // a damaged one makes room
  await kernelStore().getOrMake(
    key,
    async (directory) => {
      using tool = await toolchain(debian, tools, progress);
      const work = join(directory, "work");
      await Deno.mkdir(work);
      const tree = new Tree();
      await debian.unpack([source], tree);
      const tarball = tree.lookup(`usr/src/${SOURCE_PACKAGE}.tar.xz`);
      if (tarball?.type !== "file") {
        throw new CloudletError(`Cannot build the kernel: ${SOURCE_PACKAGE} holds no source`, {
          code: "untrusted",
        });
      }
      await copyContent(tarball.content, join(work, "source.tar.xz"));
      for (const [i, text] of PATCHES.entries()) {
        await Deno.writeTextFile(join(work, `${i}.patch`), text);
      }
      for (const [i, text] of fragments.entries()) {
        await Deno.writeTextFile(join(work, `${i}.config`), text);
      }
      await compile(join(tool.path, "root"), directory, options);
      checkConfig(await Deno.readTextFile(join(work, "config")), fragments);
      for (const name of ["vmlinux", "System.map", "config"]) {
        await Deno.rename(join(work, name), join(directory, name));
      }
      await Deno.remove(work, { recursive: true });
      await Deno.writeTextFile(
        join(directory, "manifest.json"),
        JSON.stringify(
          {
            version: source.version,
            variant,
            tools: tools.map((tool) => `${tool.name} ${tool.version}`),
          },
          undefined,
          2,
        ),
      );
    },
    () => progress.info("Another process compiles this kernel; waiting for it"),
    options.signal,
  );
  await writeRef(kernelStore(), variant, inputs(variant), key);
  return await openKernel(key);
}

/** Everything but the archive's state that decides what is compiled. */
function inputs(variant: KernelVariant): KeyPart {
  return {
    format: FORMAT,
    fragments: configFragments(variant),
    patches: PATCHES,
    script: SCRIPT,
    toolchain: TOOLCHAIN,
  };
}

/** The kernel of a variant that was built last, if any. */
export async function findKernel(variant: KernelVariant): Promise<Kernel | undefined> {
  const key = await readRef(kernelStore(), variant, inputs(variant));
  return key === undefined ? undefined : await findByKey(key);
}

/** The kernel of a key, if there is a good one; a damaged one is removed. */
export async function findByKey(key: string): Promise<Kernel | undefined> {
  return await kernelStore().read(key, () => openKernel(key));
}

/**
 * The kernel of a cache entry that is there.
 *
 * @throws {DamagedEntry} when it is not what it was when it was made
 */
export async function openKernel(key: string): Promise<Kernel> {
  const what = `the kernel ${key} of the cache`;
  const entry = join(kernelStore().root, key);
  let manifest: { version?: unknown; modules?: unknown } | null;
  try {
    manifest = JSON.parse(await readTextIfAny(join(entry, "manifest.json")) ?? "");
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new DamagedEntry(what, "its manifest.json is gone, or no JSON", { cause });
  }
  const { version, modules } = manifest ?? {};
  if (typeof version !== "string") throw new DamagedEntry(what, "its manifest.json is malformed");
  const files = { vmlinux: join(entry, "vmlinux"), modules: join(entry, "modules.cpio") };
  for (const path of [files.vmlinux, ...modules === true ? [files.modules] : []]) {
    if (!(await isFile(path))) throw new DamagedEntry(what, `${path} is gone`);
  }
  return {
    key,
    vmlinux: files.vmlinux,
    ...(modules === true && { modules: files.modules }),
    version,
  };
}

// What a vmlinux of this configuration compiles, for the progress bar; more or less is no harm.
const COMPILE_STEPS = 1400;

async function compile(root: string, directory: string, options: KernelOptions): Promise<void> {
  using task = options.progress.task("Compile the kernel", { total: COMPILE_STEPS, unit: "items" });
  using log = await Deno.open(join(directory, "build.log"), { create: true, write: true });
  const decoder = new TextDecoder();
  let line = "";
  const code = await runInRoot({
    root,
    command: ["/bin/sh", "-c", SCRIPT],
    binds: { "/build": join(directory, "work") },
    env: {
      PATH: "/usr/bin:/usr/sbin",
      LC_ALL: "C",
      JOBS: String(hostResources().processors),
      UNUSED_SOURCE: UNUSED_SOURCE.join(" "),
      // the same bytes on every machine and day: Documentation/kbuild/reproducible-builds.rst
      KBUILD_BUILD_TIMESTAMP: "1970-01-01 00:00:00 UTC",
      KBUILD_BUILD_USER: "cloudlet",
      KBUILD_BUILD_HOST: "cloudlet",
      KBUILD_BUILD_VERSION: "1",
    },
    ...(options.signal && { signal: options.signal }),
    onOutput(chunk) {
      writeAllSync(log, chunk);
      const lines = (line + decoder.decode(chunk, { stream: true })).split("\n");
      line = lines.pop()!;
      for (const text of lines) {
        if (text.startsWith("cloudlet: ")) task.note(text.slice("cloudlet: ".length));
        else if (/^ {2}(CC|AS|AR|LD|HOSTCC|GEN|UPD) /.test(text)) task.advance(1);
      }
    },
  });
  if (code !== 0) {
    const kept = join(cacheDir(), "kernel-build.log");
    await Deno.copyFile(join(directory, "build.log"), kept);
    throw new CloudletError(`Cannot compile the kernel: make ended with exit code ${code}`, {
      code: "host",
      remedy: `read the end of ${kept}; often the disk or the memory ran out`,
    });
  }
  task.done();
}
