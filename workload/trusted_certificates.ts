/**
 * Where programs find the certificates that they trust.
 *
 * @module
 */

/** Debian's bundle (ca-certificates), which OpenSSL and GnuTLS read by default. */
export const SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt";
/** The same with what cloudlet adds: images of other distributions have theirs elsewhere. */
export const TRUSTED_BUNDLE = "/etc/ssl/certs/cloudlet-trusted.pem";

/** Variables by which programs with lists of their own find one that is to be trusted. */
export const TRUST_VARIABLES: Readonly<Record<string, string>> = Object.fromEntries(
  [
    ...["SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE"],
    ...["AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "DENO_CERT", "CARGO_HTTP_CAINFO"],
  ].map((name) => [name, TRUSTED_BUNDLE]),
);

/** Languages whose interpreter reads these when it starts: one that waits has done so. */
export const READ_AT_START: ReadonlySet<string> = new Set(["node", "deno"]);
