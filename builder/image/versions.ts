/**
 * The versions of languages that there are, and where each comes from: a Debian release, or an OCI
 * image.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { COMMAND, type LanguageName, languages } from "../../workload/languages.ts";

/** The Debian release that images are made of when none is asked for. */
export const DEFAULT_SUITE = "trixie";

/** A version of a language. */
export interface LanguageVersion {
  /** Such as `3.13`. */
  readonly version: string;
  /** The Debian release that has it. */
  readonly suite?: string;
  /** The OCI image that has it, where no release does. */
  readonly image?: string;
}

/**
 * By language, the default first. Each release of Debian keeps its versions for as long as it lives;
 * the OCI images are the official ones of each language.
 */
export const LANGUAGE_VERSIONS: Readonly<Record<LanguageName, readonly LanguageVersion[]>> = {
  python: [
    { version: "3.13", suite: "trixie" },
    { version: "3.11", suite: "bookworm" },
    { version: "3.14", image: "python:3.14-slim" },
    { version: "3.12", image: "python:3.12-slim" },
    { version: "3.10", image: "python:3.10-slim" },
  ],
  node: [
    { version: "20", suite: "trixie" },
    { version: "18", suite: "bookworm" },
    { version: "24", image: "node:24-slim" },
    { version: "22", image: "node:22-slim" },
  ],
  rust: [
    { version: "1.85", suite: "trixie" },
    { version: "1.63", suite: "bookworm" },
    { version: "1.90", image: "rust:1.90-slim" },
  ],
  deno: [], // that of cloudlet itself
  bash: [{ version: "5.2", suite: "trixie" }],
};

/** A language as users write it: `python`, `python@3.11`. */
export interface LanguageParts {
  readonly name: string;
  /** Undefined when none is named. */
  readonly version: string | undefined;
}

/** Splits `LANGUAGE[@VERSION]`; neither is checked. */
export function splitLanguage(text: string): LanguageParts {
  const at = text.indexOf("@");
  if (at < 0) return { name: text, version: undefined };
  return { name: text.slice(0, at), version: text.slice(at + 1) };
}

/** `LANGUAGE[@VERSION]` */
export function joinLanguage(name: string, version: string | undefined): string {
  return version === undefined ? name : `${name}@${version}`;
}

/**
 * The version of a language that is asked for. A part of one will do, where it is that of the first
 * that begins so: `3` means 3.13.
 *
 * @param version as users write it
 * @throws {CloudletError} `invalid-input` for one that there is not; it lists those that there are
 */
export function languageVersion(language: string, version: string): LanguageVersion {
  const refuse = (why: string, remedy: string) =>
    new CloudletError(
      `Cannot use ${language.slice(0, 64)} in the version ${
        JSON.stringify(version.slice(0, 64))
      }: ${why}`,
      { code: "invalid-input", remedy },
    );
  if (language === COMMAND) throw refuse("a command has no version", "name a version in [image]");
  const known = Object.hasOwn(LANGUAGE_VERSIONS, language)
    ? LANGUAGE_VERSIONS[language as LanguageName]
    : [];
  if (language === languages.deno.name) {
    throw refuse(
      `programs run in the Deno that runs cloudlet, ${Deno.version.deno}`,
      "remove the version, or use the language command with an OCI image",
    );
  }
  const found = known.find((known) => known.version === version) ??
    known.find((known) => version !== "" && known.version.startsWith(`${version}.`));
  if (found !== undefined) return found;
  const names = known.map(({ version }) => `${language}@${version}`).join(", ");
  throw refuse("there is no such version", `use one of ${names}, or any OCI image`);
}
