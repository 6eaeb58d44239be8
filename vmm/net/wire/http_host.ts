/**
 * The Host of an HTTP/1 request (RFC 9112 section 3.2), in the first bytes of a connection.
 *
 * @module
 */
import type { HelloName } from "./tls_hello.ts";

/** Most bytes of a request's head that are waited for. */
export const MOST_HEAD = 16_384;
const METHOD = /^[A-Z][A-Z-]{0,15}( |$)/;

/** What the first bytes of a connection, of which more may follow, say of the server that is wanted. */
export function httpHost(bytes: Uint8Array): HelloName {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  if (!METHOD.test(text.slice(0, 17))) return { kind: "other" };
  const end = text.search(/\r?\n\r?\n/);
  if (end < 0) return bytes.length < MOST_HEAD ? { kind: "more" } : { kind: "other" };
  const hosts = text.slice(0, end).split(/\r?\n/).slice(1)
    .filter((line) => /^host[ \t]*:/i.test(line))
    .map((line) => line.slice(line.indexOf(":") + 1).trim().toLowerCase());
  // Two that differ are an attempt to have each side believe another one.
  if (hosts.length !== 1) return hosts.length === 0 ? { kind: "none" } : { kind: "other" };
  const name = hosts[0]!.replace(/:\d{0,5}$/, "").replace(/\.$/, "");
  return /^[\x21-\x7e]{1,255}$/.test(name) ? { kind: "name", name } : { kind: "none" };
}
