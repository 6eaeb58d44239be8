/**
 * Which OpenPGP keys are Debian's.
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { readDirectory } from "./apt_config.ts";
import { ARCHIVE_KEYS } from "./archive_keys.ts";
import { fingerprints, type Keyring } from "./release.ts";

/** Where the package debian-archive-keyring puts Debian's keys; .pgp since Debian 13. */
const PLACES = [
  "usr/share/keyrings/debian-archive-keyring.gpg",
  "usr/share/keyrings/debian-archive-keyring.pgp",
];

/** Reads a keyring file. */
export async function readKeyring(path: string): Promise<Keyring> {
  try {
    return { name: path, parts: [await Deno.readFile(path)] };
  } catch (cause) {
    throw new CloudletError(`Cannot read the keyring ${path}: ${messageOf(cause)}`, {
      code: cause instanceof Deno.errors.NotFound ? "not-found" : "host",
      remedy:
        "install the package debian-archive-keyring, or set [debian] keyring to a keyring file",
      cause,
    });
  }
}

/** Options of {@linkcode debianKeyring}. */
export interface KeyringOptions {
  /** Path that the user set. */
  readonly configured?: string | undefined;
  /** Root of the host's file system; `/` when absent. */
  readonly root?: string;
}

/**
 * Debian's archive keyring: the one that the user set, else the host's, else cloudlet's own copy.
 *
 * @throws {CloudletError} `not-found` when the one that the user set is missing
 */
export async function debianKeyring(options: KeyringOptions = {}): Promise<Keyring> {
  const { configured, root = "/" } = options;
  if (configured !== undefined) return await readKeyring(configured);
  for (const place of PLACES) {
    try {
      return await readKeyring(join(root, place));
    } catch (error) {
      if (!(error instanceof CloudletError && error.code === "not-found")) throw error;
    }
  }
  const directory = join(root, "etc/apt/trusted.gpg.d");
  const parts = readDirectory(directory, /^debian-archive-.*\.asc$/);
  if (parts.length > 0) {
    return { name: directory, parts: parts.map(([, text]) => new TextEncoder().encode(text)) };
  }
  return bundledKeyring();
}

/** The copy of Debian's archive keys that comes with cloudlet. */
export function bundledKeyring(): Keyring {
  return {
    name: "cloudlet's copy of Debian's archive keys",
    parts: ARCHIVE_KEYS.map(({ base64 }) => Uint8Array.fromBase64(base64)),
  };
}

/** Names of the files of the package debian-archive-keyring. */
const DEBIAN_FILE = /^\/usr\/share\/keyrings\/debian-archive-[\w-]+\.(gpg|pgp)$/;

/**
 * The keys that must sign a source: those of its Signed-By when they are Debian's, else `debian`.
 *
 * @param signedBy paths, armoured keys or fingerprints
 * @param debian Debian's archive keyring
 * @returns undefined when the source is signed by keys of somebody else
 */
export async function sourceKeyring(
  signedBy: readonly string[],
  debian: Keyring,
): Promise<Keyring | undefined> {
  const parts: Keyring[] = [];
  for (const part of signedBy) {
    if (part.startsWith("-----BEGIN PGP")) {
      parts.push({ name: "a Signed-By field", parts: [new TextEncoder().encode(part)] });
    } else if (part.startsWith("/")) {
      parts.push(await readKeyring(part));
    } // else a fingerprint: one of the trusted keys
  }
  if (parts.length === 0) return debian;
  const own = signedBy.every((part) => DEBIAN_FILE.test(part));
  if (!own) {
    const known = new Set(
      [...await fingerprints(debian), ...ARCHIVE_KEYS.map(({ fingerprint }) => fingerprint)],
    );
    const theirs = (await Promise.all(parts.map(fingerprints))).flat();
    if (!theirs.some((fingerprint) => known.has(fingerprint))) return undefined;
  }
  return {
    name: parts.map(({ name }) => name).join(" and "),
    parts: parts.flatMap(({ parts }) => parts),
  };
}
