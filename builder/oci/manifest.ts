/**
 * Index, manifest and configuration of an image: the OCI image specification 1.1, and docker's
 * "Image Manifest Version 2, Schema 2", whose documents differ in their media types only.
 *
 * Everything here comes from a registry, which may be hostile.
 *
 * @module
 */
import { ARCHITECTURE } from "../architecture.ts";
import { z } from "zod";
import { CloudletError } from "../../base/errors.ts";
import { parseDigest } from "./digest.ts";

const OCI = "application/vnd.oci.image";
const DOCKER = "application/vnd.docker";

const INDEX_TYPES: ReadonlySet<string> = new Set([
  `${OCI}.index.v1+json`,
  `${DOCKER}.distribution.manifest.list.v2+json`,
]);
const MANIFEST_TYPES: ReadonlySet<string> = new Set([
  `${OCI}.manifest.v1+json`,
  `${DOCKER}.distribution.manifest.v2+json`,
]);
const CONFIG_TYPES: ReadonlySet<string> = new Set([
  `${OCI}.config.v1+json`,
  `${DOCKER}.container.image.v1+json`,
]);
const LAYER_TYPES: ReadonlySet<string> = new Set([
  ...["layer", "layer.nondistributable"].flatMap((kind) =>
    ["tar", "tar+gzip", "tar+zstd"].map((form) => `${OCI}.${kind}.v1.${form}`)
  ),
  ...["diff", "foreign.diff"].flatMap((kind) =>
    ["tar", "tar.gzip", "tar.zstd"].map((form) => `${DOCKER}.image.rootfs.${kind}.${form}`)
  ),
]);

/** Media types that a registry is asked for, the manifests first. */
export const ACCEPTED_TYPES: readonly string[] = [...MANIFEST_TYPES, ...INDEX_TYPES];

/** Most bytes of an index, a manifest or a configuration; registries take manifests up to 4 MiB. */
export const MAX_DOCUMENT: number = 4 * 1024 * 1024;
/** Most bytes of a compressed layer. */
export const MAX_LAYER: number = 64 * 1024 ** 3;
const MAX_LAYERS = 1024; // overlay file systems end at 128 (docker) and 500 (the kernel)
const MAX_MANIFESTS = 4096;

/** What tells a blob: OCI image specification, "OCI Content Descriptors". */
export interface Descriptor {
  /** What it is. */
  readonly mediaType: string;
  /** `sha256:HEX`. */
  readonly digest: string;
  /** Length in bytes. */
  readonly size: number;
}

/** The system that an image is for. */
export interface Platform {
  /** Such as `amd64`. */
  readonly architecture: string;
  /** Such as `linux`. */
  readonly os: string;
  /** Such as `v8`. */
  readonly variant?: string | undefined;
}

/** An entry of an index. */
export interface IndexEntry extends Descriptor {
  readonly platform?: Platform | undefined;
  /** The name that it has in an image layout. */
  readonly name?: string | undefined;
}

/** A manifest. */
export interface Manifest {
  readonly config: Descriptor;
  /** The first is the lowest. */
  readonly layers: readonly Descriptor[];
}

/** How an image wants its program started. */
export interface ProgramConfig {
  /** `NAME=VALUE` each. */
  readonly env: readonly string[];
  /** Program and first arguments; what the user gives follows. */
  readonly entrypoint: readonly string[];
  /** What follows when the user gives nothing. */
  readonly cmd: readonly string[];
  /** Absolute directory; "" is the root. */
  readonly workingDir: string;
  /** `USER`, `UID`, `USER:GROUP`, ...; "" is root. */
  readonly user: string;
}

/** An image's configuration. */
export interface ImageConfig {
  readonly platform: Platform;
  /** How its program is started. */
  readonly program: ProgramConfig;
  /** Digests of the uncompressed layers. */
  readonly diffIds: readonly string[];
}

const digest = z.string().refine(
  (text) => parseDigest(text) !== undefined,
  "is no sha256 digest, and no other is supported",
);
const descriptor = z.object({
  mediaType: z.string().max(255),
  digest,
  size: z.int().min(0).max(MAX_LAYER),
});
const platform = z.object({
  architecture: z.string().max(100),
  os: z.string().max(100),
  variant: z.string().max(100).optional(),
});
const index = z.object({
  manifests: z.array(descriptor.extend({
    platform: platform.nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
  })).max(MAX_MANIFESTS),
});
const manifest = z.object({
  config: descriptor,
  layers: z.array(descriptor).max(MAX_LAYERS),
});
const text = z.string().max(131_072).refine((text) => !text.includes("\0"), "has a NUL byte in it");
const texts = z.array(text).max(4096).nullish();
const config = z.object({
  architecture: z.string().max(100),
  os: z.string().max(100),
  variant: z.string().max(100).optional(),
  config: z.object({
    Env: texts,
    Entrypoint: texts,
    Cmd: texts,
    WorkingDir: text.nullish(),
    User: text.nullish(),
  }).nullish(),
  rootfs: z.object({
    type: z.literal("layers"),
    diff_ids: z.array(digest).max(MAX_LAYERS).nullish(),
  }),
});

/** An error about what a registry sent. */
export function badImage(what: string, why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot use the image ${what}: ${why}`, {
    code: "untrusted",
    remedy: "report it to whoever made the image, or use another one",
    cause,
  });
}

function parse<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string, kind: string): T {
  let data: unknown;
  try {
    data = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw badImage(what, `its ${kind} is no JSON`, cause);
  }
  const checked = schema.safeParse(data);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  const place = issue!.path.join(".");
  throw badImage(
    what,
    `its ${kind} is malformed: ${place === "" ? "it" : place}: ${issue!.message}`,
  );
}

/** What a document is, told by its own words or by those of whoever sent it. */
export function mediaTypeOf(bytes: Uint8Array, told: string | undefined): string {
  let own: unknown;
  try {
    own = (JSON.parse(new TextDecoder().decode(bytes)) as { mediaType?: unknown } | null)
      ?.mediaType;
  } catch {
    // parsing it will say so
  }
  return typeof own === "string" ? own : (told ?? "").split(";", 1).join("").trim();
}

/** Whether it is the media type of an index, of a manifest, or of neither. */
export function kindOfDocument(mediaType: string): "index" | "manifest" | undefined {
  if (INDEX_TYPES.has(mediaType)) return "index";
  return MANIFEST_TYPES.has(mediaType) ? "manifest" : undefined;
}

/** Reads an index; `what` names the image in errors. */
export function parseIndex(bytes: Uint8Array, what: string): IndexEntry[] {
  return parse(index, bytes, what, "index").manifests.map(
    ({ mediaType, digest, size, platform, annotations }) => ({
      mediaType,
      digest,
      size,
      platform: platform ?? undefined,
      name: annotations?.["org.opencontainers.image.ref.name"],
    }),
  );
}

/**
 * Reads a manifest.
 *
 * @throws {CloudletError} `untrusted` when it is malformed or of something else than an image
 */
export function parseManifest(bytes: Uint8Array, what: string): Manifest {
  const { config, layers } = parse(manifest, bytes, what, "manifest");
  if (!CONFIG_TYPES.has(config.mediaType)) {
    const type = JSON.stringify(config.mediaType);
    throw badImage(what, `it is no container image: its configuration is of the type ${type}`);
  }
  for (const { mediaType } of layers) {
    if (!LAYER_TYPES.has(mediaType)) {
      throw badImage(what, `a layer is of the unknown type ${JSON.stringify(mediaType)}`);
    }
  }
  return { config, layers };
}

/** Reads a configuration. */
export function parseConfig(bytes: Uint8Array, what: string): ImageConfig {
  const data = parse(config, bytes, what, "configuration");
  const { Env, Entrypoint, Cmd, WorkingDir, User } = data.config ?? {};
  return {
    platform: { architecture: data.architecture, os: data.os, variant: data.variant },
    program: {
      env: Env ?? [],
      entrypoint: Entrypoint ?? [],
      cmd: Cmd ?? [],
      workingDir: WorkingDir ?? "",
      user: User ?? "",
    },
    diffIds: data.rootfs.diff_ids ?? [],
  };
}

/** GOARCH of this host, as the specification names architectures. */

/** Whether microVMs of this host run what is made for the platform. */
export function platformFits({ architecture, os }: Platform): boolean {
  return os === "linux" && architecture === ARCHITECTURE;
}

/** A platform in words. */
export function platformName({ architecture, os, variant }: Platform): string {
  return `${os}/${architecture}${variant === undefined ? "" : `/${variant}`}`;
}

/**
 * The entry of an index that fits this host; the first of several, as the specification wants. One
 * without a platform fits when no other does.
 *
 * @throws {CloudletError} `not-found` with the platforms that there are
 */
export function choosePlatform(entries: readonly IndexEntry[], what: string): IndexEntry {
  const known = entries.filter(({ mediaType }) => kindOfDocument(mediaType) !== undefined);
  const found = known.find(({ platform }) => platform !== undefined && platformFits(platform)) ??
    known.find(({ platform }) => platform === undefined);
  if (found !== undefined) return found;
  throw noPlatform(what, known.flatMap(({ platform }) => platform ?? []));
}

/** The error for an image of other platforms. */
export function noPlatform(what: string, platforms: readonly Platform[]): CloudletError {
  // Indexes list attestations as unknown/unknown.
  const names = new Set(platforms.filter(({ os }) => os !== "unknown").map(platformName));
  const there = names.size === 0 ? "none" : [...names].sort().join(", ");
  return new CloudletError(
    `Cannot use the image ${what}: it is not for linux/${ARCHITECTURE}; there is ${there}`,
    { code: "not-found", remedy: `use an image for linux/${ARCHITECTURE}` },
  );
}
