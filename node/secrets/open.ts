/**
 * The proxy of one machine's secrets, with this installation's authority.
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import { loadSettings } from "../../base/settings.ts";
import type { HostSecret } from "../network.ts";
import { Authority } from "./authority.ts";
import { SecretProxy } from "./proxy.ts";

/** A proxy, and whom the guest has to trust. */
export interface OpenedSecrets {
  readonly proxy: SecretProxy;
  /** Certificate (PEM). */
  readonly certificate: string;
}

/**
 * Opens one.
 *
 * @param warn hears of secrets that could not be put in
 * @throws {CloudletError} `host` when the settings name certificates that cannot be read
 */
export async function openSecrets(
  secrets: readonly HostSecret[],
  warn: (message: string) => void,
): Promise<OpenedSecrets> {
  const authority = await Authority.open();
  const { ca } = (await loadSettings()).network;
  const trusted = ca === undefined ? undefined : [await readCertificates(ca)];
  const proxy = await SecretProxy.open({ secrets, authority, trusted, warn });
  return { proxy, certificate: authority.certificate };
}

async function readCertificates(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (cause) {
    throw new CloudletError(`Cannot read the certificates ${path}: ${messageOf(cause)}`, {
      code: "host",
      remedy: "correct [network] ca in the settings",
      cause,
    });
  }
}
