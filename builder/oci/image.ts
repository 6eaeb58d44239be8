/**
 * From a reference to an image: which manifest fits this host, how its program is started, and where
 * its layers come from.
 *
 * @module
 */
import type { Content } from "../tree.ts";
import {
  badImage,
  choosePlatform,
  type Descriptor,
  type ImageConfig,
  kindOfDocument,
  type Manifest,
  mediaTypeOf,
  noPlatform,
  parseConfig,
  parseIndex,
  parseManifest,
  platformFits,
} from "./manifest.ts";

/** One layer of an image. */
export interface Layer {
  /** Digest of the uncompressed archive. */
  readonly diffId: string;
  /** Bytes to fetch; 0 when they are on this host's disk. */
  readonly size: number;
  /** The archive, compressed or not; it is what its digest says, where it has one. */
  fetch(signal: AbortSignal, advance: (bytes: number) => void): Promise<Content>;
}

/** An image, of which only the documents were read. */
export interface OciImage {
  /** As the user named it, in full. */
  readonly name: string;
  /** Digest of the manifest, or of the configuration where there is no manifest. */
  readonly digest: string;
  /** What it says of itself. */
  readonly config: ImageConfig;
  /** The first is the lowest. */
  readonly layers: readonly Layer[];
}

/** An index or a manifest. */
export interface RootDocument {
  readonly bytes: Uint8Array;
  readonly digest: string;
  /** What whoever sent it says that it is. */
  readonly mediaType: string | undefined;
}

/** Where an image's parts come from. */
export interface ImageSource {
  /** As the user named it. */
  readonly name: string;
  /** The index or manifest of a digest; checked. */
  document(descriptor: Descriptor): Promise<RootDocument>;
  /** A configuration; checked. */
  config(descriptor: Descriptor): Promise<Uint8Array>;
  /** A layer's blob; checked. */
  layer(
    descriptor: Descriptor,
    signal: AbortSignal,
    advance: (bytes: number) => void,
  ): Promise<Content>;
  /** Whether layers have to be fetched. */
  readonly remote: boolean;
}

const MAX_DEPTH = 4; // indexes in indexes

/**
 * The image for this host that a document leads to.
 *
 * @throws {CloudletError} `untrusted`, `not-found` without an image for this platform, and whatever
 *   the source throws
 */
export async function resolveImage(source: ImageSource, root: RootDocument): Promise<OciImage> {
  let document = root;
  for (let depth = 0;; depth++) {
    const mediaType = mediaTypeOf(document.bytes, document.mediaType);
    const kind = kindOfDocument(mediaType);
    if (kind === "manifest") return await fromManifest(source, document);
    if (kind === undefined) {
      throw badImage(
        source.name,
        `its manifest is of the unknown type ${JSON.stringify(mediaType)}`,
      );
    }
    if (depth === MAX_DEPTH) throw badImage(source.name, "its indexes are nested too deeply");
    const entry = choosePlatform(parseIndex(document.bytes, source.name), source.name);
    document = await source.document(entry);
  }
}

async function fromManifest(source: ImageSource, document: RootDocument): Promise<OciImage> {
  const manifest: Manifest = parseManifest(document.bytes, source.name);
  const config = parseConfig(await source.config(manifest.config), source.name);
  if (!platformFits(config.platform)) throw noPlatform(source.name, [config.platform]);
  const { diffIds } = config;
  if (diffIds.length !== manifest.layers.length) {
    throw badImage(
      source.name,
      `its manifest has ${manifest.layers.length} layers, its configuration ${diffIds.length}`,
    );
  }
  return {
    name: source.name,
    digest: document.digest,
    config,
    layers: manifest.layers.map((descriptor, i) => ({
      diffId: diffIds[i]!,
      size: source.remote ? descriptor.size : 0,
      fetch: (signal, advance) => source.layer(descriptor, signal, advance),
    })),
  };
}
