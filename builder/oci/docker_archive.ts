/**
 * Archives that `docker save` writes, of both kinds: with a directory for each layer, and with
 * `blobs/` beside them since docker 25. Both have `manifest.json`, which tells what is where
 * (docker's image specification 1.2, "Combined Image JSON + Filesystem Changeset Format").
 *
 * @module
 */
import { dirname, join, normalize } from "node:path";
import { z } from "zod";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { type ByteSource, openSource } from "../archive/source.ts";
import { readTar } from "../archive/tar.ts";
import { contentBytes } from "../content.ts";
import { type Content, contentSize } from "../tree.ts";
import { digestOfBytes } from "./digest.ts";
import type { OciImage } from "./image.ts";
import { unreadable } from "./layout.ts";
import { badImage, MAX_DOCUMENT, noPlatform, parseConfig, platformFits } from "./manifest.ts";
import { type FileReference, formatReference, parseReference } from "./reference.ts";

const MANIFEST = z.array(z.object({
  Config: z.string(),
  RepoTags: z.array(z.string()).nullish(),
  Layers: z.array(z.string()).max(1024),
})).min(1).max(4096);
const MAX_MEMBERS = 100_000;

type Member = Content | { readonly kind: "link"; readonly target: string };

/** Names in an archive, and where their bytes are. */
class Members {
  readonly #byName = new Map<string, Member>();

  constructor(readonly name: string, source: ByteSource) {
    for (const member of readTar(source)) {
      const path = normalize(member.name);
      if (this.#byName.size > MAX_MEMBERS) throw badImage(name, "it has too many files");
      if (member.type === "file") {
        this.#byName.set(path, source.content(member.offset, member.size));
      } else if (member.type === "symlink") {
        // a layer that another image has too
        this.#byName.set(path, { kind: "link", target: join(dirname(path), member.linkName) });
      } else if (member.type === "hardlink") {
        this.#byName.set(path, { kind: "link", target: normalize(member.linkName) });
      }
    }
  }

  get(path: string): Content {
    let member = this.#byName.get(normalize(path));
    for (let links = 0; member?.kind === "link" && links < 8; links++) {
      member = this.#byName.get(member.target);
    }
    if (member !== undefined && member.kind !== "link") return member;
    throw new CloudletError(
      `Cannot read the image ${this.name}: it lacks ${JSON.stringify(path)}`,
      {
        code: "untrusted",
        remedy: "save the image again",
      },
    );
  }

  small(path: string): Uint8Array {
    const content = this.get(path);
    if (contentSize(content) > MAX_DOCUMENT) throw badImage(this.name, `${path} is too large`);
    return contentBytes(content);
  }
}

/** Opens an image of an archive, which must not change while the image is used. */
export function openDockerArchive(reference: FileReference): OciImage {
  const name = formatReference(reference);
  let members: Members;
  try {
    using source = openSource(reference.path, name);
    members = new Members(name, source);
  } catch (cause) {
    if (cause instanceof CloudletError) throw cause;
    throw unreadable(name, messageOf(cause), cause);
  }
  let data: unknown;
  try {
    data = JSON.parse(new TextDecoder().decode(members.small("manifest.json")));
  } catch (cause) {
    if (cause instanceof CloudletError) throw cause;
    throw badImage(name, "its manifest.json is no JSON", cause);
  }
  const checked = MANIFEST.safeParse(data);
  if (!checked.success) throw badImage(name, "its manifest.json is malformed", checked.error);
  const entry = choose(checked.data, reference, name);
  const bytes = members.small(entry.Config);
  const config = parseConfig(bytes, name);
  if (!platformFits(config.platform)) throw noPlatform(name, [config.platform]);
  if (config.diffIds.length !== entry.Layers.length) {
    throw badImage(
      name,
      `its manifest.json has ${entry.Layers.length} layers, its configuration ` +
        `${config.diffIds.length}`,
    );
  }
  return {
    name,
    digest: digestOfBytes(bytes),
    config,
    layers: entry.Layers.map((path, i) => {
      const content = members.get(path);
      return {
        diffId: config.diffIds[i]!, // what the bytes are checked with, once they are uncompressed
        size: 0,
        fetch: () => Promise.resolve(content),
      };
    }),
  };
}

type Entry = z.infer<typeof MANIFEST>[number];

function choose(entries: readonly Entry[], { image }: FileReference, name: string): Entry {
  if (image === undefined && entries.length === 1) return entries[0]!;
  const tags = entries.flatMap(({ RepoTags }) => RepoTags ?? []);
  const there = tags.length === 0 ? "none with a name" : tags.join(", ");
  if (image === undefined) {
    throw new CloudletError(`Cannot tell which image of ${name} is meant: it has ${there}`, {
      code: "invalid-input",
      remedy: "name one of those after the path and a colon",
    });
  }
  const wanted = formatReference(parseReference(image));
  const found = entries.find(({ RepoTags }) =>
    RepoTags?.some((tag) => tag === image || formatReference(parseReference(tag)) === wanted)
  );
  if (found !== undefined) return found;
  throw new CloudletError(`Cannot find the image ${name}: the archive has ${there}`, {
    code: "not-found",
    remedy: "name one of those after the path and a colon",
  });
}
