/**
 * Which OpenPGP keys are Debian's.
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import { readDirectory } from "./apt_config.ts";
import type { Keyring } from "./release.ts";

/** Where the package debian-archive-keyring puts Debian's keys; .pgp since Debian 13. */
const PLACES = [
  "/usr/share/keyrings/debian-archive-keyring.gpg",
  "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/** Reads a keyring file. */
export async function readKeyring(path: string): Promise<Keyring> {
  try {
    return { name: path, bytes: await Deno.readFile(path) };
  } catch (cause) {
    throw new CloudletError(`Cannot read the keyring ${path}: ${messageOf(cause)}`, {
      code: cause instanceof Deno.errors.NotFound ? "not-found" : "host",
      remedy:
        "install the package debian-archive-keyring, or set [debian] keyring to a keyring file",
      cause,
    });
  }
}

/**
 * Debian's archive keyring: the one that the user set, or the host's.
 *
 * @param configured path that the user set
 * @throws {CloudletError} `host` when there is none
 */
export async function debianKeyring(configured?: string): Promise<Keyring> {
  if (configured !== undefined) return await readKeyring(configured);
  for (const path of PLACES) {
    try {
      return await readKeyring(path);
    } catch (error) {
      if (!(error instanceof CloudletError && error.code === "not-found")) throw error;
    }
  }
  const parts = readDirectory("/etc/apt/trusted.gpg.d", /^debian-archive-.*\.asc$/);
  if (parts.length > 0) {
    const text = parts.map(([, text]) => text).join("\n");
    return { name: "/etc/apt/trusted.gpg.d", bytes: new TextEncoder().encode(text) };
  }
  throw new CloudletError("Cannot find Debian's archive keyring on this host", {
    code: "host",
    remedy: "install the package debian-archive-keyring, or set [debian] keyring to a keyring file",
  });
}
