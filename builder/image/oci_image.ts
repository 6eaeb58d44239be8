/**
 * Root images made from OCI images: their layers merged, with the agent and everything that it needs
 * below a prefix of its own.
 *
 * Which image a tag means is asked for once; afterwards the answer is kept until the user wants it
 * asked again, so that the same command runs the same thing, without the network.
 *
 * @module
 */
import type { Progress } from "../../base/progress.ts";
import { cacheKey, type KeyPart } from "../../base/store.ts";
import { initScript } from "./init.ts";
import { temporaryIn } from "../../base/files.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import type { OciImage } from "../oci/image.ts";
import type { OpenOptions } from "../oci/open.ts";
import { formatReference, type Reference } from "../oci/reference.ts";
import { RegistryCache } from "../oci/cache.ts";
import { ImageBudget, type ImageLimits } from "../limits.ts";
import { readRef, writeRef } from "../refs.ts";
import type { Tree } from "../tree.ts";
import { AGENT_SHA256 } from "./agent/digest.ts";
import { type Additions, additionsKey, applyAdditions } from "./additions.ts";
import { storeImage } from "./build_image.ts";
import { findByKey, type Image, imageStore, openImage } from "./image.ts";
import { denoState } from "./inputs.ts";
import {
  addOwnRuntime,
  addPayload,
  loadPayload,
  makeWay,
  ownInitScript,
  runtimePackages,
} from "./payload.ts";
import { lazyImport } from "../../base/lazy_import.ts";

const FORMAT = 3; // raise it when the same image would give another tree
const NAME = "oci";
const STALE = 86_400_000; // milliseconds after which the age of a tag is told

/** What a root image is made from. */
export interface OciImageRequest {
  readonly reference: Reference;
  /** Debian packages to add. */
  readonly packages: readonly string[];
  readonly additions: Additions;
}

/** What {@linkcode buildOciImage} needs. */
export interface OciImageOptions extends OpenOptions {
  /** Where the agent's libraries come from. */
  readonly debian: Debian;
  /** Opens the archive of a Debian release: packages that are added are of the image's own. */
  readonly archive: (release: string) => Promise<Debian>;
  /** Gets told how far it is. */
  readonly progress: Progress;
  /** What the image may take; the defaults when absent. */
  readonly limits?: ImageLimits | undefined;
}

async function inputs(request: OciImageRequest, digest: string): Promise<KeyPart> {
  return {
    format: FORMAT,
    digest,
    packages: request.packages,
    agent: AGENT_SHA256,
    deno: await denoState(),
    init: initScript(),
    ...additionsKey(request.additions),
  };
}

/**
 * The image as it was last built with this agent and this Deno, if it was. Of a tag, what it meant
 * when the registry was last asked.
 */
export async function findOciImage(
  request: OciImageRequest,
  progress: Progress,
): Promise<Image | undefined> {
  const { reference } = request;
  let digest: string | undefined;
  let asked: Date | undefined;
  if (reference.kind !== "registry") {
    const { openImage: openOciImage } = await lazyImport<typeof import("../oci/open.ts")>(
      "../oci/open.ts",
      import.meta.url,
    ); // most have no use for it
    using open = await openOciImage(reference); // what is on the disk is looked at each time
    digest = open.image.digest;
  } else if (reference.digest !== undefined) {
    digest = reference.digest;
  } else {
    const tag = await new RegistryCache().readTag(reference);
    digest = tag?.digest;
    asked = tag?.asked;
  }
  if (digest === undefined) return undefined;
  const store = imageStore();
  const key = await readRef(store, NAME, await inputs(request, digest));
  const image = key === undefined ? undefined : await findByKey(key);
  if (image === undefined) return undefined;
  const age = asked === undefined ? 0 : Date.now() - asked.getTime();
  if (age > STALE) {
    const days = Math.floor(age / STALE);
    progress.info(
      `Using ${formatReference(reference)} as the registry had it ${days} ` +
        `day${days === 1 ? "" : "s"} ago; --pull asks again`,
    );
  }
  return image;
}

/** The image's files, whose contents are on the disk until the stack is disposed. */
async function unpackInto(
  stack: DisposableStack,
  image: OciImage,
  options: { readonly progress: Progress; readonly budget: ImageBudget },
): Promise<Tree> {
  const directory = stack.use(temporaryIn(imageStore().root));
  await Deno.mkdir(directory.path);
  const { unpackImage } = await lazyImport<typeof import("../oci/unpack.ts")>(
    "../oci/unpack.ts",
    import.meta.url,
  );
  return await unpackImage(image, directory.path, options);
}

/** Packages that an image gets, with what they depend on. */
interface AddedPackages {
  readonly packages: readonly DebianPackage[];
  addTo(tree: Tree, budget: ImageBudget): Promise<void>;
}

async function resolveAdded(
  tree: Tree,
  names: readonly string[],
  { archive, name }: Pick<OciImageOptions, "archive"> & { readonly name: string },
): Promise<AddedPackages> {
  const { addInstalledPackages, debianRelease } = await lazyImport<
    typeof import("./installed_packages.ts")
  >("./installed_packages.ts", import.meta.url);
  const debian = await archive(debianRelease(tree, name));
  const packages = debian.resolve(names);
  return {
    packages,
    addTo: (tree, budget) => addInstalledPackages(tree, packages, debian, name, budget),
  };
}

/**
 * The image: from the cache, or made now.
 *
 * @throws {CloudletError} whatever pulling, fetching packages and writing throw
 */
export async function buildOciImage(
  request: OciImageRequest,
  options: OciImageOptions,
): Promise<Image> {
  const { reference, additions } = request;
  const { debian, progress } = options;
  const name = formatReference(reference);
  const { openImage: openOciImage } = await lazyImport<typeof import("../oci/open.ts")>(
    "../oci/open.ts",
    import.meta.url,
  );
  using budget = new ImageBudget(name, options.limits, options.signal);
  using open = await openOciImage(reference, { ...options, signal: budget.signal })
    .catch((error) => {
      throw budget.explain(error);
    });
  const { image } = open;
  const runtime = runtimePackages(debian);
  const payload = await loadPayload();
  const path = image.config.program.env.findLast((text) => text.startsWith("PATH="));
  // The agent's own commands need one; the program's is empty where the image wants that.
  const init = ownInitScript(path?.slice("PATH=".length) || undefined);
  // The layers are needed no longer than the tree is.
  using layers = new DisposableStack();
  const unpack = () => unpackInto(layers, image, { progress, budget });
  // Only its files say of which release the image is.
  const early = request.packages.length === 0 ? undefined : await unpack();
  const added = early && await resolveAdded(early, request.packages, { ...options, name });
  const wanted = added?.packages ?? [];
  const key = cacheKey({
    format: FORMAT,
    image: image.digest,
    runtime: runtime.map(({ sha256 }) => sha256),
    packages: wanted.map(({ sha256 }) => sha256),
    agent: payload.agent.sha256,
    deno: payload.deno.sha256,
    init,
    ...additionsKey(additions),
  });
  const manifest = {
    name,
    packages: [...runtime, ...wanted].map(({ name, version, sha256 }) => ({
      name,
      version,
      sha256,
    })),
    deno: Deno.version.deno,
    agent: payload.agent.sha256,
    from: { digest: image.digest, program: image.config.program },
  };
  await storeImage(
    key,
    { manifest, label: NAME, progress, signal: options.signal },
    async (write) => {
      const tree = early ?? await unpack();
      if (added !== undefined) await added.addTo(tree, budget);
      await applyAdditions(tree, additions, budget);
      makeWay(tree);
      await addOwnRuntime(tree, debian, runtime);
      addPayload(tree, payload, init);
      await write(tree);
    },
  );
  const store = imageStore();
  const digests = new Set([image.digest]);
  // The name is looked up by what the tag or the reference says, which may be an index.
  if (reference.kind === "registry") {
    const digest = reference.digest ?? (await new RegistryCache().readTag(reference))?.digest;
    if (digest !== undefined) digests.add(digest);
  }
  for (const digest of digests) {
    await writeRef(store, NAME, await inputs(request, digest), key);
  }
  return await openImage(key);
}
