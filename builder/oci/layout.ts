/**
 * OCI image layout directories: the OCI image specification 1.1, "OCI Image Layout".
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { isFile } from "../archive/files.ts";
import { digestOf, openSource } from "../archive/source.ts";
import type { Content } from "../tree.ts";
import { digestOfBytes, parseDigest } from "./digest.ts";
import { type ImageSource, type OciImage, resolveImage, type RootDocument } from "./image.ts";
import { choosePlatform, type Descriptor, MAX_DOCUMENT, parseIndex } from "./manifest.ts";
import { type FileReference, formatReference } from "./reference.ts";

/** An error about an image on this host's disk. */
export function unreadable(name: string, why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot read the image ${name}: ${why}`, {
    code: cause instanceof Deno.errors.NotFound ? "not-found" : "invalid-input",
    remedy: "check the path, or make the image again",
    cause,
  });
}

/** Opens the image of a layout directory. */
export async function openLayout(reference: FileReference): Promise<OciImage> {
  const name = formatReference(reference);
  const source = new Layout(name, reference.path);
  await source.checkVersion();
  const bytes = await source.small(join(reference.path, "index.json"), MAX_DOCUMENT);
  const entries = parseIndex(bytes, name);
  const { image } = reference;
  const wanted = image === undefined
    ? entries
    : entries.filter((entry) => entry.name === image || entry.digest === image);
  const names = entries.flatMap((entry) => entry.name ?? []);
  if (wanted.length === 0) {
    const there = names.length === 0 ? "none with a name" : names.join(", ");
    throw new CloudletError(`Cannot find the image ${name}: the directory has ${there}`, {
      code: "not-found",
      remedy: "name one of those after the path and a colon",
    });
  }
  // Several may be one image for several platforms, but not several images.
  if (image === undefined && new Set(names).size > 1) {
    throw new CloudletError(
      `Cannot tell which image of ${name} is meant: it has ${names.join(", ")}`,
      {
        code: "invalid-input",
        remedy: "name one of those after the path and a colon",
      },
    );
  }
  const root = wanted.length === 1 ? wanted[0]! : choosePlatform(wanted, name);
  return await resolveImage(source, await source.document(root));
}

class Layout implements ImageSource {
  readonly remote = false;

  constructor(readonly name: string, readonly path: string) {}

  async checkVersion(): Promise<void> {
    const bytes = await this.small(join(this.path, "oci-layout"), 4096);
    let version: unknown;
    try {
      version = JSON.parse(new TextDecoder().decode(bytes)).imageLayoutVersion;
    } catch (cause) {
      throw unreadable(this.name, "its file oci-layout is no JSON", cause);
    }
    if (typeof version !== "string" || !version.startsWith("1.")) {
      throw unreadable(this.name, `its layout has the unknown version ${JSON.stringify(version)}`);
    }
  }

  async small(path: string, limit: number): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const { size } = await Deno.stat(path);
      if (size > limit) throw unreadable(this.name, `${path} has more than ${limit} bytes`);
      return await Deno.readFile(path);
    } catch (cause) {
      if (cause instanceof CloudletError) throw cause;
      throw unreadable(this.name, messageOf(cause), cause);
    }
  }

  async document(descriptor: Descriptor): Promise<RootDocument> {
    const bytes = await this.config(descriptor);
    return { bytes, digest: descriptor.digest, mediaType: descriptor.mediaType };
  }

  async config(descriptor: Descriptor): Promise<Uint8Array> {
    const bytes = await this.small(this.#blob(descriptor), MAX_DOCUMENT);
    this.#check(descriptor, digestOfBytes(bytes));
    return bytes;
  }

  async layer(descriptor: Descriptor): Promise<Content> {
    const path = this.#blob(descriptor);
    if (!(await isFile(path))) {
      throw new CloudletError(`Cannot read the image ${this.name}: it lacks ${descriptor.digest}`, {
        code: "not-found",
        remedy: "make the image again",
      });
    }
    using source = openSource(path);
    this.#check(descriptor, `sha256:${digestOf(source)}`);
    return source.content(0, source.size);
  }

  #blob({ digest }: Descriptor): string {
    return join(this.path, "blobs/sha256", parseDigest(digest)!);
  }

  #check({ digest }: Descriptor, found: string): void {
    if (digest === found) return;
    throw new CloudletError(
      `Cannot trust the image ${this.name}: the digest of a blob is ${found}, expected is ${digest}`,
      { code: "untrusted", remedy: "make the image again" },
    );
  }
}
