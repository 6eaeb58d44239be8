/**
 * The root images that cloudlet can build by name: one for each language, and `tiny` for tests.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { nearest } from "../../base/nearest.ts";
import { type LanguageName, languages } from "../../workload/languages.ts";
import { BUSYBOX, DENO_NEEDS } from "./payload.ts";
import { DEFAULT_SUITE, joinLanguage, languageVersion, splitLanguage } from "./versions.ts";

/** What an image is made of. */
export interface ImageDeclaration {
  /** Name by which it is built and listed, with the version where one was asked for. */
  readonly name: string;
  /** The Debian release that its packages are of. */
  readonly suite: string;
  /** Debian packages that are asked for; what they depend on comes along. */
  readonly packages: readonly string[];
  /** Whether it is a whole Debian system: with the packages that are `Essential: yes`. */
  readonly essential: boolean;
  /** Whether the agent and the Deno binary that runs it are inside. */
  readonly agent: boolean;
  /** Whether programs find Deno as `/usr/bin/deno`. */
  readonly deno: boolean;
  /** Whether busybox is found under the names of all its commands. */
  readonly busybox: boolean;
}

/**
 * What programs expect of a Debian system besides the Essential packages (policy 3.8): those with
 * Priority: required, the three that the official images of languages add (ca-certificates, netbase,
 * tzdata), and tools that scripts call.
 */
const SYSTEM = [
  ...["apt", "libpam-runtime", "login", "mawk", "mount", "passwd", "tzdata"],
  ...["ca-certificates", "netbase"],
  ...["bzip2", "file", "less", "patch", "procps", "xz-utils"],
];

/** More of them by release. */
const SYSTEM_OF_SUITE: Readonly<Record<string, readonly string[]>> = {
  trixie: ["tzdata-legacy"], // names such as US/Eastern, which tzdata itself had before
  bookworm: ["usr-is-merged"], // in place of usrmerge, a script that merges, with all of Perl
};

/** Debian packages of each language's image, besides the system. */
const LANGUAGE_PACKAGES: Readonly<Record<LanguageName, readonly string[]>> = {
  python: ["python3"],
  node: ["nodejs"],
  rust: ["rustc", "cargo", "gcc", "libc6-dev"],
  deno: [], // every image has Deno: the agent runs under it
  bash: [],
};

// Every image: process 1 is a script of this shell, and it mounts and switches off.
const ALWAYS = [BUSYBOX];

const TINY = {
  name: "tiny",
  packages: ALWAYS,
  essential: false,
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
 * @param name that of a language, as `python` or `python@3.11`, or another of {@linkcode imageNames}
 * @param extra Debian packages
 * @param suite the release of an image whose version is not named
 * @throws {CloudletError} `not-found` for a name that is not one, with the nearest that is;
 *   `invalid-input` for a version that no Debian release has
 */
export function imageDeclaration(
  name: string,
  extra: readonly string[] = [],
  suite: string = DEFAULT_SUITE,
): ImageDeclaration {
  if (name === TINY.name) return { ...TINY, suite, packages: [...TINY.packages, ...extra] };
  const { name: language, version } = splitLanguage(name);
  if (!Object.hasOwn(languages, language)) {
    const guess = nearest(language, imageNames());
    throw new CloudletError(`Cannot build the image "${name}": there is none of that name`, {
      code: "not-found",
      remedy: guess === undefined
        ? `choose one of ${imageNames().join(", ")}`
        : `did you mean "${guess}"? There are ${imageNames().join(", ")}`,
    });
  }
  const chosen = version === undefined ? undefined : languageVersion(language, version);
  if (chosen !== undefined && chosen.suite === undefined) {
    throw new CloudletError(
      `Cannot build the image "${name}": no Debian release has it, but the OCI image ${chosen.image}`,
      { code: "invalid-input", remedy: `use \`cloudlet image pull ${chosen.image}\`` },
    );
  }
  const own = LANGUAGE_PACKAGES[language as LanguageName];
  const release = chosen?.suite ?? suite;
  const system = [...SYSTEM, ...SYSTEM_OF_SUITE[release] ?? []];
  return {
    name: joinLanguage(language, chosen?.version),
    suite: release,
    packages: [...new Set([...ALWAYS, ...DENO_NEEDS, ...system, ...own, ...extra])],
    essential: true,
    agent: true,
    deno: language === "deno",
    busybox: false,
  };
}
