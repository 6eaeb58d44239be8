/**
 * The root images that cloudlet can build by name: one for each language, and `tiny` for tests.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { nearest } from "../../base/nearest.ts";
import { type LanguageName, languages } from "../../workload/languages.ts";
import { BUSYBOX, DENO_NEEDS } from "./payload.ts";

/** What an image is made of. */
export interface ImageDeclaration {
  /** Name by which it is built and listed. */
  readonly name: string;
  /** Debian packages that are asked for; what they depend on comes along. */
  readonly packages: readonly string[];
  /** Whether the agent and the Deno binary that runs it are inside. */
  readonly agent: boolean;
  /** Whether programs find Deno as `/usr/bin/deno`. */
  readonly deno: boolean;
  /** Whether busybox is found under the names of all its commands. */
  readonly busybox: boolean;
}

/** Debian packages of each language's image, besides the base system. */
const LANGUAGE_PACKAGES: Readonly<Record<LanguageName, readonly string[]>> = {
  python: ["python3"],
  node: ["nodejs"],
  rust: ["rustc", "cargo", "gcc", "libc6-dev"],
  deno: [], // every image has Deno: the agent runs under it
  bash: ["bash", "coreutils", "sed", "grep", "gawk", "findutils"],
};

// Every image: process 1 is a script of this shell, and it mounts and switches off.
const ALWAYS = [BUSYBOX];

const TINY: ImageDeclaration = {
  name: "tiny",
  packages: ALWAYS,
  agent: false,
  deno: false,
  busybox: true,
};

/** Names of all images, sorted. */
export function imageNames(): string[] {
  return [...Object.keys(languages), TINY.name].sort();
}

/**
 * The declaration of the image `name`, with `extra` Debian packages besides its own.
 *
 * @throws {CloudletError} `not-found` for a name that is not one, with the nearest that is
 */
export function imageDeclaration(
  name: string,
  extra: readonly string[] = [],
): ImageDeclaration {
  if (name === TINY.name) return { ...TINY, packages: [...TINY.packages, ...extra] };
  if (!Object.hasOwn(languages, name)) {
    const guess = nearest(name, imageNames());
    throw new CloudletError(`Cannot build the image "${name}": there is none of that name`, {
      code: "not-found",
      remedy: guess === undefined
        ? `choose one of ${imageNames().join(", ")}`
        : `did you mean "${guess}"? There are ${imageNames().join(", ")}`,
    });
  }
  const own = LANGUAGE_PACKAGES[name as LanguageName];
  return {
    name,
    packages: [...new Set([...ALWAYS, ...DENO_NEEDS, ...own, ...extra])],
    agent: true,
    deno: name === "deno",
    busybox: false,
  };
}
