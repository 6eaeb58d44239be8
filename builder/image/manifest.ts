/**
 * What an image was made from, as kept beside it.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { DamagedEntry } from "../../base/store.ts";
import { readTextIfAny } from "../../base/files.ts";
import type { ProgramConfig } from "../oci/manifest.ts";

/** What an image was made from, as kept beside it. */
export interface ImageManifest {
  /** Name of the declaration. */
  readonly name: string;
  /** Size of the image in bytes. */
  readonly size: number;
  /** SHA-256 of the image, in hex. */
  readonly sha256: string;
  /** The packages inside. */
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly sha256: string;
  }[];
  /** Version of the Deno inside, when there is one. */
  readonly deno?: string;
  /** SHA-256 of the agent inside, when there is one. */
  readonly agent?: string;
  /** The OCI image that it was made from, if any. */
  readonly from?: {
    /** Digest of its manifest. */
    readonly digest: string;
    /** How its program is started. */
    readonly program: ProgramConfig;
  };
}

const texts = z.array(z.string());
const MANIFEST = z.object({
  name: z.string(),
  size: z.int().nonnegative(),
  sha256: z.string(),
  packages: z.array(z.object({ name: z.string(), version: z.string(), sha256: z.string() })),
  deno: z.string().optional(),
  agent: z.string().optional(),
  from: z.object({
    digest: z.string(),
    program: z.object({
      env: texts,
      entrypoint: texts,
      cmd: texts,
      workingDir: z.string(),
      user: z.string(),
    }),
  }).optional(),
});

/** The error that an image of the cache is damaged. */
export function damagedImage(key: string, why: string, cause?: unknown): DamagedEntry {
  return new DamagedEntry(`the image ${key} of the cache`, why, {
    remedy: `remove it with \`cloudlet image rm ${key}\`: it is made again when it is needed`,
    cause,
  });
}

/**
 * Reads the manifest of an image.
 *
 * @throws {DamagedEntry} when it is not there, or not as it was written
 */
export async function readManifest(directory: string, key: string): Promise<ImageManifest> {
  const text = await readTextIfAny(join(directory, "manifest.json"));
  if (text === undefined) throw damagedImage(key, "its manifest.json is gone");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw damagedImage(key, "its manifest.json is no JSON", cause);
  }
  const result = MANIFEST.safeParse(value);
  if (result.success) return result.data as ImageManifest;
  throw damagedImage(key, "its manifest.json is malformed", result.error);
}
