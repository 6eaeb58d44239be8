/**
 * The proxy of one machine's connections, with this installation's authority.
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import { lazyImport } from "../../base/lazy_import.ts";
import { loadSettings } from "../../base/settings.ts";
import type { HostSecret } from "../network.ts";
import { Authority } from "./authority.ts";
import { InterceptingProxy } from "./proxy.ts";

/** What comes this way. */
export interface Intercepted {
  readonly secrets: readonly HostSecret[];
  /** Whether everything does, for what it fetches. */
  readonly downloads: boolean;
}

/** A proxy, and whom the guest has to trust. */
export interface OpenedProxy {
  readonly proxy: InterceptingProxy;
  /** Certificate (PEM). */
  readonly certificate: string;
}

/**
 * Opens one.
 *
 * @param warn hears of secrets that could not be put in
 * @throws {CloudletError} `host` when the settings name certificates that cannot be read
 */
export async function openProxy(
  { secrets, downloads }: Intercepted,
  warn: (message: string) => void,
): Promise<OpenedProxy> {
  const authority = await Authority.open();
  const { ca } = (await loadSettings()).network;
  const trusted = ca === undefined ? undefined : [await readCertificates(ca)];
  const proxy = await InterceptingProxy.open({
    ...{ secrets, authority, trusted, warn },
    ...(downloads && { downloads: await openDownloads() }),
  });
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

async function openDownloads() {
  const { Downloads } = await lazyImport<typeof import("../downloads/downloads.ts")>(
    "../downloads/downloads.ts",
    import.meta.url,
  );
  return new Downloads();
}
