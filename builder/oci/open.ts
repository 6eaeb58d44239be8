/**
 * Opens the image that a reference means, wherever it is.
 *
 * @module
 */
import { noteUse } from "../../base/cache/kinds.ts";
import { CloudletError } from "../../base/errors.ts";
import { writeFileAtomic } from "../../base/files.ts";
import { openSource } from "../archive/source.ts";
import type { Content } from "../tree.ts";
import { digestOfBytes } from "./digest.ts";
import { openDockerArchive } from "./docker_archive.ts";
import { type ImageSource, type OciImage, resolveImage, type RootDocument } from "./image.ts";
import { openLayout } from "./layout.ts";
import { badImage, type Descriptor, MAX_DOCUMENT } from "./manifest.ts";
import { formatReference, type Reference, type RegistryReference } from "./reference.ts";
import { type Mirror, openRegistries, type Registries } from "./mirrors.ts";
import type { RegistryOptions } from "./registry.ts";
import { RegistryCache } from "./cache.ts";

/** How {@linkcode openImage} goes about it. */
export interface OpenOptions extends RegistryOptions {
  /** Whether to ask the registry what a tag means now; otherwise the last answer will do. */
  readonly pull?: boolean | undefined;
  /** Where the image is looked for before its own registry is asked. */
  readonly mirrors?: readonly Mirror[] | undefined;
  /** Where what is fetched is kept; in cloudlet's own cache when absent. */
  readonly cache?: RegistryCache | undefined;
}

/** An image whose layers can be fetched until it is disposed. */
export interface OpenImage extends Disposable {
  readonly image: OciImage;
}

/**
 * Reads what a reference means: its manifest and configuration, no layers.
 *
 * @throws {CloudletError} `not-found`, `denied`, `unavailable`, `untrusted`, `invalid-input`,
 *   `cancelled`
 */
export async function openImage(
  reference: Reference,
  options: OpenOptions = {},
): Promise<OpenImage> {
  switch (reference.kind) {
    case "oci":
      return { image: await openLayout(reference), [Symbol.dispose]() {} };
    case "docker-archive":
      return { image: openDockerArchive(reference), [Symbol.dispose]() {} };
    case "registry": {
      const registry = openRegistries(reference.host, options.mirrors ?? [], options);
      try {
        const source = new RegistrySource(
          reference,
          registry,
          options.cache ?? new RegistryCache(),
        );
        const image = await resolveImage(source, await source.root(options.pull ?? false));
        return { image, [Symbol.dispose]: () => registry[Symbol.dispose]() };
      } catch (error) {
        registry[Symbol.dispose]();
        throw error;
      }
    }
  }
}

class RegistrySource implements ImageSource {
  readonly remote = true;
  readonly name: string;
  readonly #reference: RegistryReference;
  readonly #registry: Registries;
  readonly #cache: RegistryCache;

  constructor(reference: RegistryReference, registry: Registries, cache: RegistryCache) {
    this.#cache = cache;
    this.name = formatReference(reference);
    this.#reference = reference;
    this.#registry = registry;
  }

  async root(pull: boolean): Promise<RootDocument> {
    const { tag, digest, repository } = this.#reference;
    if (digest !== undefined) return await this.#manifest(digest, undefined);
    const known = pull ? undefined : await this.#cache.readTag(this.#reference);
    if (known !== undefined) return await this.#manifest(known.digest, known.mediaType);
    const found = await this.#registry.manifest(repository, tag!);
    await writeFileAtomic(this.#cache.blob(found.digest), found.bytes);
    await this.#cache.writeTag(this.#reference, found.digest, found.mediaType);
    return found;
  }

  document({ digest, mediaType }: Descriptor): Promise<RootDocument> {
    return this.#manifest(digest, mediaType);
  }

  async #manifest(digest: string, mediaType: string | undefined): Promise<RootDocument> {
    const known = await cached(digest, this.#cache);
    if (known !== undefined) return { bytes: known, digest, mediaType };
    const found = await this.#registry.manifest(this.#reference.repository, digest);
    await writeFileAtomic(this.#cache.blob(digest), found.bytes);
    return { ...found, mediaType: mediaType ?? found.mediaType };
  }

  async config(descriptor: Descriptor): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    if (size > MAX_DOCUMENT) throw badImage(this.name, "its configuration is too large");
    const goal = this.#cache.blob(digest);
    await this.#registry.blob(this.#reference.repository, descriptor, goal);
    return await Deno.readFile(goal);
  }

  async layer(
    descriptor: Descriptor,
    signal: AbortSignal,
    advance: (bytes: number) => void,
  ): Promise<Content> {
    const goal = this.#cache.blob(descriptor.digest);
    await this.#registry.blob(this.#reference.repository, descriptor, goal, signal, advance);
    using source = openSource(goal, `${descriptor.digest} of ${this.name}`);
    return source.content(0, source.size);
  }
}

/** A small document of the cache. */
async function cached(digest: string, cache: RegistryCache): Promise<Uint8Array | undefined> {
  const path = cache.blob(digest);
  try {
    if ((await Deno.stat(path)).size > MAX_DOCUMENT) return undefined;
    const bytes = await Deno.readFile(path);
    if (digestOfBytes(bytes) === digest) {
      await noteUse(path);
      return bytes;
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  throw new CloudletError(`Cannot trust ${path}: its digest is another than its name`, {
    code: "untrusted",
    remedy: "remove the file; it is fetched again then",
  });
}
