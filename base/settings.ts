/**
 * The user's own settings: `config.toml` in cloudlet's configuration directory.
 *
 * Not to be confused with the config of one workload, which lies beside the program that it runs.
 *
 * @module
 */
import { join } from "node:path";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { isRegistryHost } from "./addresses.ts";
import { parseSize } from "./cache/size.ts";
import { configDir } from "./dirs.ts";
import { CloudletError, messageOf } from "./errors.ts";
import { readTextIfAny } from "./files.ts";

const host = z.string().refine(
  isRegistryHost,
  "must be a host, with its port if it has one: team.example:5000",
);

// OCI distribution specification 1.1: the components of a repository's name
const mirror = z.string().refine(
  (text) => {
    const [host = "", ...path] = text.replace(/^https?:\/\//, "").replace(/\/$/, "").split("/");
    return isRegistryHost(host) && path.every((name) => /^[a-z0-9][a-z0-9._-]*$/.test(name));
  },
  "must be a host, with http:// or https:// before it and a path behind it if need be: " +
    "mirror.example:5000",
);

/** One, several, or several as containerd and k3s have them. */
const mirrors = z.preprocess((value) => {
  if (typeof value === "string") return [value];
  const known = value !== null && typeof value === "object" && "endpoint" in value &&
    Object.keys(value).length === 1;
  return known ? value.endpoint : value;
}, z.array(mirror).max(16));

const size = z.string().refine(
  (text) => parseSize(text) !== undefined,
  "must be a size: 20GiB",
);

const SCHEMA = z.strictObject({
  debian: z.strictObject({
    mirror: z.url().optional(),
    suite: z.string().regex(/^[a-z][a-z0-9-]*$/).optional(),
    security: z.union([z.url(), z.literal(false)]).optional(),
    keyring: z.string().startsWith("/").optional(),
  }).default({}),
  registry: z.strictObject({
    ca: z.string().startsWith("/").optional(),
    allowed: z.array(host).default([]),
    insecure: z.array(host).default([]),
    token_services: z.array(host).default([]),
  }).prefault({}),
  registries: z.strictObject({
    mirrors: z.record(host, mirrors).default({}),
  }).prefault({}),
  images: z.strictObject({
    max_mib: z.int().positive().optional(),
    max_entries: z.int().positive().optional(),
    max_minutes: z.number().positive().max(24 * 60).optional(),
  }).default({}),
  network: z.strictObject({
    resolver: z.string().optional(),
    ca: z.string().startsWith("/").optional(),
  }).default({}),
  cache: z.strictObject({ size: z.union([size, z.literal(false)]).optional() }).default({}),
});

/** Settings of the Debian packages that kernels and images are made of. */
export interface DebianSettings {
  /** URL of the archive; the host's own apt sources when absent. */
  readonly mirror?: string | undefined;
  /** Release name, such as `bookworm`; the host's own when absent. */
  readonly suite?: string | undefined;
  /** URL of the mirror's security archive; beside the mirror when absent, `false` for none. */
  readonly security?: string | false | undefined;
  /** Absolute path of the OpenPGP keyring that signs the archive. */
  readonly keyring?: string | undefined;
}

/** Settings of the registries that OCI images come from. */
export interface RegistrySettings {
  /** Absolute path of certificates (PEM) that are trusted besides those of the system. */
  readonly ca?: string | undefined;
  /**
   * Hosts, with their port if they have one, that clients of a server may pull from, private ones
   * included; every public one when empty. A run without a server pulls from everywhere.
   */
  readonly allowed: readonly string[];
  /** Hosts, with their port if they have one, that may speak http. */
  readonly insecure: readonly string[];
  /** Hosts whose token services may get the logins of registries elsewhere. */
  readonly token_services: readonly string[];
}

/** Settings of several registries. */
export interface RegistriesSettings {
  /**
   * By host of a registry, with its port if it has one: the mirrors that are asked before it, as
   * `HOST[:PORT]`, with a scheme before it and a path behind it if need be.
   */
  readonly mirrors: Readonly<Record<string, readonly string[]>>;
}

/** Limits of one image while it is fetched and unpacked; the defaults are builder/limits.ts's. */
export interface ImageSettings {
  /** MiB of all layers and packages, unpacked. */
  readonly max_mib?: number | undefined;
  /** Files, directories and links. */
  readonly max_entries?: number | undefined;
  /** Minutes from the first request to the last file. */
  readonly max_minutes?: number | undefined;
}

/** Settings of the cache. */
export interface CacheSettings {
  /** What it may take on the disk, such as `20GiB`; the default when absent, `false` for no limit. */
  readonly size?: string | false | undefined;
}

/** Settings of guests' networks. */
export interface NetworkSettings {
  /**
   * The resolver that is asked for guests, `ADDRESS[:PORT]`; those of the host's `/etc/resolv.conf`
   * when absent.
   */
  readonly resolver?: string | undefined;
  /**
   * Absolute path of certificates (PEM) that hosts with secrets may have, in place of those that Deno
   * trusts.
   */
  readonly ca?: string | undefined;
}

/** All settings. */
export interface Settings {
  /** `[debian]` */
  readonly debian: DebianSettings;
  /** `[registry]` */
  readonly registry: RegistrySettings;
  /** `[registries]` */
  readonly registries: RegistriesSettings;
  /** `[images]` */
  readonly images: ImageSettings;
  /** `[network]` */
  readonly network: NetworkSettings;
  /** `[cache]` */
  readonly cache: CacheSettings;
}

/** Parses settings; `path` is only named in errors. */
export function parseSettings(text: string, path: string): Settings {
  const invalid = (why: string, cause?: unknown) =>
    new CloudletError(`Cannot read the settings in ${path}: ${why}`, {
      code: "invalid-input",
      remedy: "correct or remove the file",
      cause,
    });
  let value: unknown;
  try {
    value = parse(text);
  } catch (cause) {
    throw invalid(cause instanceof TomlError ? cause.message.trim() : messageOf(cause), cause);
  }
  const result = SCHEMA.safeParse(value);
  if (!result.success) throw invalid(z.prettifyError(result.error), result.error);
  return result.data;
}

/**
 * Settings of the user, or the defaults when there is no file.
 *
 * @throws {CloudletError} `invalid-input` for a file that is not what it should be
 */
export async function loadSettings(): Promise<Settings> {
  const path = join(configDir(), "config.toml");
  return parseSettings(await readTextIfAny(path) ?? "", path);
}
