/**
 * Has programs trust a certificate besides those of the image: what OpenSSL and GnuTLS of Debian read, and
 * what variables name for runtimes with lists of their own (workload/trusted_certificates.ts).
 *
 * @module
 */
import { dirname } from "node:path";
import { CloudletError, messageOf } from "../base/errors.ts";
import { SYSTEM_BUNDLE, TRUSTED_BUNDLE } from "../workload/trusted_certificates.ts";

const MOST_BYTES = 64 * 1024;

/**
 * Adds a certificate.
 *
 * @param certificate PEM
 * @param paths other than the system's, for tests
 * @throws {CloudletError} `invalid-input` for what is none, `guest` when it cannot be written
 */
export function trust(
  certificate: string,
  paths = { system: SYSTEM_BUNDLE, own: TRUSTED_BUNDLE },
): void {
  if (certificate.length > MOST_BYTES || !/^-----BEGIN CERTIFICATE-----\n/.test(certificate)) {
    throw new CloudletError("Cannot trust it: it is no certificate", { code: "invalid-input" });
  }
  try {
    let known = "";
    try {
      known = Deno.readTextFileSync(paths.system);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // an image without certificates
    }
    const all = known.includes(certificate)
      ? known
      : `${known.trimEnd()}\n${certificate}`.trimStart();
    for (const path of [paths.system, paths.own]) {
      Deno.mkdirSync(dirname(path), { recursive: true });
      Deno.writeTextFileSync(path, all);
    }
  } catch (cause) {
    throw new CloudletError(`Cannot trust the certificate of secrets: ${messageOf(cause)}`, {
      code: "guest",
      cause,
    });
  }
}
