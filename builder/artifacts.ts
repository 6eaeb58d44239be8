/**
 * Everything a microVM boots from, found in the cache or built on the spot: the one door through
 * which the runner and the command line reach the builders.
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { type Progress, silentProgress } from "../base/progress.ts";
import { loadSettings } from "../base/settings.ts";
import { cacheKey, Store } from "../base/store.ts";
import type { MissingFile } from "../workload/dependencies/missing.ts";
import { contentBytes } from "./content.ts";
import type { Debian } from "./debian/debian.ts";
import type { AddedFile, AddedLayer, Additions } from "./image/additions.ts";
import { type ImageDeclaration, imageDeclaration } from "./image/declarations.ts";
import { findImage, type Image, imageStore } from "./image/image.ts";
import { DEFAULT_SUITE, joinLanguage } from "./image/versions.ts";
import { buildInitramfs, INIT_SCRIPT } from "./initramfs/mod.ts";
import type { KernelVariant } from "./kernel/config.ts";
import { buildKernel, findKernel, type Kernel, kernelStore } from "./kernel/kernel.ts";
import { findUnpackedKernel, unpackKernel } from "./kernel/packaged.ts";
import { isKernelSource } from "./kernel/source.ts";
import { KERNEL_SUITE } from "./kernel/suite.ts";
import { checkReference, type RegistryPolicy } from "./oci/policy.ts";
import { parseReference } from "./oci/reference.ts";
import { Held } from "./held.ts";
import {
  type ChangeMaker,
  changesKey,
  changeStore,
  dependencyStore,
  installedEntry,
  installedLayer,
  LAYER,
} from "./layers.ts";
import { ImageBudget, imageLimits } from "./limits.ts";
import { readRef, writeRef } from "./refs.ts";
import { Tree } from "./tree.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** How to build. */
export interface BuilderOptions {
  /**
   * Gets what is found or made, and the packages and layers that it is made from: they stay in the
   * cache until it is disposed. Without it, anything may be removed at once.
   */
  readonly held?: Held;
  /** Gets told how far it is; nobody when absent. */
  readonly progress?: Progress;
  /** Ends what is being built; nothing half-made stays. */
  readonly signal?: AbortSignal;
  /** What the clients of a server may pull; everything when absent. */
  readonly registries?: RegistryPolicy | undefined;
}

/** What a VM boots from, besides its root image. */
export interface BootFiles {
  /** Path of the kernel. */
  readonly kernel: string;
  /** Paths of the initramfs archives, in the order in which the kernel unpacks them. */
  readonly initramfs: readonly string[];
}

/** A root image, and what is added to it. */
export interface RootRequest {
  /** Name of the language, whose own image it is without `from`. */
  readonly language: string;
  /** Its version, of those that a Debian release has; the default when absent. */
  readonly version?: string | undefined;
  /** The OCI image, as users write it. */
  readonly from?: string | undefined;
  /** Whether to ask the registry what a tag means now. */
  readonly pull: boolean;
  /** Whether the registry may speak http. */
  readonly insecure: boolean;
  /** Debian packages to add. */
  readonly packages: readonly string[];
  /** Files to add, after the packages. */
  readonly files: readonly AddedFile[];
  /** Shell commands whose changes belong to the image, after the files. */
  readonly run: readonly string[];
  /** Key of what was installed for a program ({@linkcode dependencyStore}); nothing when absent. */
  readonly dependencies?: string | undefined;
}

/**
 * Builds and finds what `work` asks for. All of it stays in the cache until `work` has ended; then the
 * cache is brought back within its budget, if something was built.
 */
export async function withBuilder<T>(
  options: Omit<BuilderOptions, "held">,
  work: (builder: Builder) => Promise<T>,
): Promise<T> {
  const held = new Held();
  const builder = new Builder({ ...options, held });
  try {
    return await work(builder);
  } finally {
    held[Symbol.dispose]();
    if (builder.built) {
      const { keepWithinBudget } = await lazyImport<typeof import("../base/cache/upkeep.ts")>(
        "../base/cache/upkeep.ts",
        import.meta.url,
      );
      await keepWithinBudget((message) => options.progress?.info(message));
    }
  }
}

/** Builds and finds kernels, initramfs and images; opens the Debian archive only when it must. */
export class Builder {
  readonly #progress: Progress;
  readonly #signal: AbortSignal | undefined;
  readonly #registries: RegistryPolicy | undefined;
  readonly #archives = new Map<string, Promise<Debian>>();
  readonly #held: Held | undefined;
  /** Whether it has asked for packages or layers, as it does for what is not in the cache. */
  built = false;

  /** @param options progress, cancellation, and what may be pulled */
  constructor(options: BuilderOptions = {}) {
    this.#held = options.held;
    this.#progress = options.progress ?? silentProgress;
    this.#signal = options.signal;
    this.#registries = options.registries;
  }

  /** What is found or made, which then stays. */
  async #entry<T extends { readonly key: string }>(
    store: Store,
    find: () => Promise<T>,
  ): Promise<T> {
    return await (this.#held?.entry(store, find, this.#signal) ?? find());
  }

  /** The archive of a Debian release, that images come from; that of the settings when absent. */
  async #archive(suite?: string): Promise<Debian> {
    const { debian } = await loadSettings();
    return await this.#open(suite ?? debian.suite ?? DEFAULT_SUITE);
  }

  /** The archive of a release; opened once. */
  #open(suite: string): Promise<Debian> {
    const opened = this.#archives.get(suite) ?? this.#openNow(suite);
    this.#archives.set(suite, opened);
    return opened;
  }

  async #openNow(suite: string): Promise<Debian> {
    // A run that finds everything in the cache does not wait for OpenPGP and xz to be loaded.
    const { openDebian } = await lazyImport<typeof import("./debian/debian.ts")>(
      "./debian/debian.ts",
      import.meta.url,
    );
    this.built = true;
    await this.#held?.files("debian", this.#signal);
    const { debian } = await loadSettings();
    return await openDebian({ ...debian, suite, progress: this.#progress, signal: this.#signal });
  }

  /** Which packages of an image's release have files. */
  async packagesWith(image: string, files: readonly MissingFile[]): Promise<Map<string, string>> {
    const { suite } = await this.#declaration(image);
    return await (await this.#archive(suite)).packagesWith(files);
  }

  async #declaration(name: string, packages?: readonly string[]): Promise<ImageDeclaration> {
    return imageDeclaration(name, packages, (await loadSettings()).debian.suite);
  }

  /**
   * What a VM boots from.
   *
   * @param kernel a kernel's name, or the path of a vmlinux or bzImage that needs no modules
   * @param vcpus number of processors
   */
  async bootFiles(kernel: string, vcpus: number): Promise<BootFiles> {
    const initramfs = await this.initramfs();
    if (!isKernelSource(kernel)) return { kernel, initramfs: [initramfs] };
    const { vmlinux, modules } = kernel === "debian"
      ? await this.debianKernel()
      : await this.kernel(vcpus > 1 ? "smp" : "up");
    return {
      kernel: vmlinux,
      initramfs: modules === undefined ? [initramfs] : [initramfs, modules],
    };
  }

  /** Debian's kernel, for any number of vCPUs; `refresh` asks the archive for a newer one. */
  async debianKernel(refresh = false): Promise<Kernel> {
    return await this.#entry(kernelStore(), async () => {
      const existing = refresh ? undefined : await findUnpackedKernel();
      return existing ?? await unpackKernel({
        debian: await this.#archive(KERNEL_SUITE),
        progress: this.#progress,
      });
    });
  }

  /** The compiled kernel; `refresh` asks the archive whether there is a newer source. */
  async kernel(variant: KernelVariant = "up", refresh = false): Promise<Kernel> {
    return await this.#entry(kernelStore(), async () => {
      const existing = refresh ? undefined : await findKernel(variant);
      return existing ?? await buildKernel({
        debian: await this.#archive(KERNEL_SUITE),
        variant,
        progress: this.#progress,
        signal: this.#signal,
      });
    });
  }

  /**
   * The root image `name`.
   *
   * @param options `refresh` asks the archive whether there are newer packages; `packages` are
   *   Debian packages besides those of the image
   * @throws {CloudletError} `not-found` for an unknown image or package
   */
  async image(
    name: string,
    options: { readonly refresh?: boolean; readonly packages?: readonly string[] } = {},
  ): Promise<Image> {
    const declaration = await this.#declaration(name, options.packages);
    return await this.#entry(imageStore(), async () => {
      const existing = options.refresh ? undefined : await findImage(declaration);
      return existing ?? await this.#buildImage(declaration);
    });
  }

  async #buildImage(declaration: ImageDeclaration, additions?: Additions): Promise<Image> {
    // Nor does it load what packages are unpacked and images are written with.
    const { buildImage } = await lazyImport<typeof import("./image/build_image.ts")>(
      "./image/build_image.ts",
      import.meta.url,
    );
    return await buildImage(declaration, {
      debian: await this.#archive(declaration.suite),
      additions,
      progress: this.#progress,
      limits: imageLimits((await loadSettings()).images),
      signal: this.#signal,
    });
  }

  /**
   * Checks what a request asks for, without the network.
   *
   * @throws {CloudletError} `denied` for an image that may not be pulled
   */
  checkRoot({ from, insecure }: Pick<RootRequest, "from" | "insecure">): void {
    if (from === undefined || this.#registries === undefined) return;
    checkReference(this.#registries, parseReference(from), insecure);
  }

  /**
   * The root image of a request: the language's own or an OCI image, with what is added to it.
   *
   * @param request what it is made from
   * @param changes makes the layer of what `request.run` changes in an image
   * @throws {CloudletError} `not-found` for an unknown image or package, and whatever pulling and
   *   building throw
   */
  async rootImage(request: RootRequest, changes: ChangeMaker): Promise<Image> {
    const layers = await this.#changed(request, changes);
    const { dependencies } = request;
    if (dependencies !== undefined) {
      const find = () => installedEntry(dependencies);
      layers.push(installedLayer(await this.#entry(dependencyStore(), find)));
    }
    return await this.#withFiles(
      layers.length === 0 ? request : { ...request, pull: false },
      layers,
    );
  }

  /** What the request's commands change: a layer, or none. */
  async #changed(request: RootRequest, changes: ChangeMaker): Promise<AddedLayer[]> {
    const { run } = request;
    if (run.length === 0) return [];
    const base = await this.#withFiles(request, []);
    const store = changeStore();
    const key = changesKey(base, request);
    const make = async (directory: string) => {
      const limits = imageLimits((await loadSettings()).images);
      using budget = new ImageBudget(base.manifest.name, limits, this.#signal);
      await changes(base, run, join(directory, LAYER), budget).catch((error) => {
        throw budget.explain(error);
      });
    };
    const wait = () =>
      this.#progress.info("Another process runs the image's commands; waiting for it");
    const { path } = await this.#entry(store, async () => ({
      key,
      path: await store.getOrMake(key, make, wait, this.#signal),
    }));
    return [{ key, path: join(path, LAYER) }];
  }

  async #withFiles(request: RootRequest, layers: Additions["layers"]): Promise<Image> {
    return await this.#entry(imageStore(), () => this.#findOrBuild(request, layers));
  }

  async #findOrBuild(request: RootRequest, layers: Additions["layers"]): Promise<Image> {
    const { language, version, from, packages, files, pull } = request;
    const additions: Additions = { files, layers };
    const settings = await loadSettings();
    const { registry, images } = settings;
    const limits = imageLimits(images);
    if (from === undefined) {
      const declaration = await this.#declaration(joinLanguage(language, version), packages);
      return await findImage(declaration, additions) ??
        await this.#buildImage(declaration, additions);
    }
    const reference = parseReference(from);
    const policy = this.#registries;
    this.checkRoot(request);
    const { buildOciImage, findOciImage } = await lazyImport<typeof import("./image/oci_image.ts")>(
      "./image/oci_image.ts",
      import.meta.url,
    );
    const { mirrorsOf } = await lazyImport<typeof import("./oci/mirrors.ts")>(
      "./oci/mirrors.ts",
      import.meta.url,
    );
    const wanted = { reference, packages, additions };
    const existing = pull ? undefined : await findOciImage(wanted, this.#progress);
    if (existing !== undefined) return existing;
    this.built = true;
    await this.#held?.files("oci", this.#signal);
    const certificates = registry.ca === undefined ? [] : [await Deno.readTextFile(registry.ca)];
    return await buildOciImage(wanted, {
      debian: await this.#archive(),
      archive: (release) => this.#archive(release),
      progress: this.#progress,
      signal: this.#signal,
      limits,
      pull,
      insecure: policy === undefined && request.insecure ||
        reference.kind === "registry" && (policy ?? registry).insecure.includes(reference.host),
      certificates,
      policy,
      mirrors: reference.kind === "registry" ? mirrorsOf(reference.host, settings) : [],
      tokenServices: registry.token_services,
    });
  }

  /** Paths of the .deb files that an image was made from, in the order in which they were unpacked. */
  async packageFiles(image: Image): Promise<string[]> {
    const declaration = await this.#declaration(image.manifest.name);
    const debian = await this.#archive(declaration.suite);
    const names = new Set(image.manifest.packages.map(({ sha256 }) => sha256));
    const packages = debian.resolve(declaration.packages, declaration)
      .filter(({ sha256 }) => names.has(sha256));
    const files = await debian.fetch(packages);
    return packages.map(({ name }) => files.get(name)!);
  }

  /** Path of the initramfs that mounts a root image, or gives a shell without one. */
  async initramfs(): Promise<string> {
    const store = new Store(join(cacheDir(), "initramfs"));
    const inputs = { format: 1, init: INIT_SCRIPT };
    const { key } = await this.#entry(store, async () => {
      const known = await readRef(store, "initramfs", inputs);
      return { key: known ?? await this.#makeInitramfs(store, inputs) };
    });
    return join(store.root, key, "initramfs.cpio");
  }

  async #makeInitramfs(
    store: Store,
    inputs: { readonly format: number; readonly init: string },
  ): Promise<string> {
    const debian = await this.#archive();
    const found = debian.resolve(["busybox-static"])
      .filter(({ name }) => name === "busybox-static");
    const key = cacheKey({ ...inputs, busybox: found.map(({ sha256 }) => sha256) });
    await store.getOrMake(key, async (directory) => {
      const tree = new Tree();
      await debian.unpack(found, tree);
      const busybox = tree.lookup("bin/busybox") ?? tree.lookup("usr/bin/busybox");
      if (busybox?.type !== "file") {
        throw new CloudletError("Cannot build the initramfs: busybox-static holds no busybox", {
          code: "untrusted",
        });
      }
      const archive = await buildInitramfs({
        busybox: contentBytes(busybox.content),
        init: INIT_SCRIPT,
      });
      await Deno.writeFile(join(directory, "initramfs.cpio"), archive);
    });
    await writeRef(store, "initramfs", inputs, key);
    return key;
  }
}
