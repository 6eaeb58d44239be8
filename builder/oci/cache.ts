/**
 * What the tags of registries meant when they were last asked for:
 *
 * ```text
 * <cache>/oci/tags/<key>.json   digest of the index or manifest; its time is when it was asked for
 * <cache>/oci/blobs/<sha256>    indexes, manifests, configurations and compressed layers
 * ```
 *
 * @module
 */
import { join } from "node:path";
import { noteUse } from "../../base/cache/kinds.ts";
import { cacheDir } from "../../base/dirs.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { cacheKey } from "../../base/store.ts";
import { parseDigest } from "./digest.ts";
import { formatReference, type RegistryReference } from "./reference.ts";

/** What a tag meant. */
export interface TagRecord {
  /** The reference in full. */
  readonly name: string;
  /** Of the index or manifest. */
  readonly digest: string;
  /** What the registry says that it is. */
  readonly mediaType: string | undefined;
  /** When the registry said so. */
  readonly asked: Date;
}

/** What was fetched from registries. */
export class RegistryCache {
  /** @param root its directory; `oci` in cloudlet's own cache when absent */
  constructor(readonly root: string = join(cacheDir(), "oci")) {}

  /** Where the blob of a digest is, or goes. */
  blob(digest: string): string {
    return join(this.root, "blobs", parseDigest(digest)!);
  }

  /** What a tag meant when the registry was last asked; undefined when it never was. */
  async readTag(reference: RegistryReference): Promise<TagRecord | undefined> {
    const path = this.#tag(reference);
    const text = await readTextIfAny(path);
    if (text === undefined) return undefined;
    try {
      const { name, digest, mediaType } = JSON.parse(text);
      if (typeof digest !== "string" || parseDigest(digest) === undefined) return undefined;
      const asked = (await Deno.stat(path)).mtime ?? new Date(0);
      await noteUse(path);
      return { name, digest, mediaType, asked };
    } catch {
      return undefined; // damaged: the registry is asked again
    }
  }

  /** Notes what a tag means now. */
  async writeTag(
    reference: RegistryReference,
    digest: string,
    mediaType: string | undefined,
  ): Promise<void> {
    const record = { name: formatReference(reference), digest, mediaType };
    await writeFileAtomic(this.#tag(reference), JSON.stringify(record) + "\n");
  }

  #tag(reference: RegistryReference): string {
    return join(this.root, "tags", `${cacheKey(formatReference(reference))}.json`);
  }
}
