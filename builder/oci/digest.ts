/**
 * Digests of the OCI image specification: `sha256:` and 64 hex digits.
 *
 * @module
 */
import { sha256 } from "../../base/store.ts";

/** The hex digits of a SHA-256 digest; undefined for anything else, other algorithms included. */
export function parseDigest(text: string): string | undefined {
  return /^sha256:([0-9a-f]{64})$/.exec(text)?.[1];
}

/** The digest of some bytes. */
export function digestOfBytes(bytes: Uint8Array): string {
  return `sha256:${sha256(bytes)}`;
}
