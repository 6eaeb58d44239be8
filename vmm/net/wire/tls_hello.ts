/**
 * The server's name in a TLS ClientHello (RFC 8446 section 4.1.2, RFC 6066 section 3).
 *
 * @module
 */

/** What the first bytes of a connection say. */
export type HelloName =
  /** More bytes are needed. */
  | { readonly kind: "more" }
  /** It is no ClientHello. */
  | { readonly kind: "other" }
  /** A ClientHello without a name. */
  | { readonly kind: "none" }
  /** A ClientHello for this name, in lower case. */
  | { readonly kind: "name"; readonly name: string };

const MORE: HelloName = { kind: "more" };
const OTHER: HelloName = { kind: "other" };
const NONE: HelloName = { kind: "none" };

/** RFC 8446 section 5.1: ContentType handshake; section 4: HandshakeType client_hello. */
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
/** Extension server_name, and NameType host_name. */
const SERVER_NAME = 0;
const HOST_NAME = 0;

/** Most bytes of a ClientHello that are waited for; larger ones are taken as something else. */
export const MOST_HELLO = 16_384;

/** Reads big-endian numbers one after the other; NaN at the end. */
class Cursor {
  at = 0;

  constructor(readonly bytes: Uint8Array, readonly end: number = bytes.length) {}

  take(size: 1 | 2 | 3): number {
    if (this.at + size > this.end) {
      this.at = this.end + 1;
      return NaN;
    }
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + this.bytes[this.at++]!;
    return value;
  }

  skip(size: number): boolean {
    this.at += size;
    return this.at <= this.end; // false for NaN as well
  }
}

/** What the first bytes of a connection, of which more may follow, say of the server that is wanted. */
export function helloName(bytes: Uint8Array): HelloName {
  const handshake = handshakeOf(bytes);
  if (!(handshake instanceof Uint8Array)) return handshake;
  const hello = new Cursor(handshake);
  // legacy_version, random, legacy_session_id, cipher_suites, legacy_compression_methods
  if (!hello.skip(2 + 32) || !hello.skip(hello.take(1))) return OTHER;
  if (!hello.skip(hello.take(2)) || !hello.skip(hello.take(1))) return OTHER;
  if (hello.at === hello.end) return NONE; // TLS 1.2 may have no extensions
  const size = hello.take(2);
  if (!(hello.at + size <= hello.end)) return OTHER;
  const extensions = new Cursor(handshake, hello.at + size);
  extensions.at = hello.at;
  while (extensions.at < extensions.end) {
    const type = extensions.take(2);
    const length = extensions.take(2);
    const start = extensions.at;
    if (!extensions.skip(length)) return OTHER;
    if (type === SERVER_NAME) return nameOf(handshake, start, start + length);
  }
  return NONE;
}

/** The ClientHello's content, out of one or more records (RFC 8446 section 5.1). */
function handshakeOf(bytes: Uint8Array): Uint8Array | HelloName {
  const pieces: number[] = [];
  for (let at = 0;;) {
    if (bytes.length > at && bytes[at] !== HANDSHAKE) return OTHER;
    if (bytes.length > at + 1 && bytes[at + 1] !== 3) return OTHER;
    if (bytes.length < at + 5) return bytes.length < MOST_HELLO ? MORE : OTHER;
    const size = bytes[at + 3]! << 8 | bytes[at + 4]!;
    if (size === 0 || size > MOST_HELLO) return OTHER;
    const content = bytes.subarray(at + 5, at + 5 + size);
    for (const byte of content) pieces.push(byte);
    if (pieces.length > 0 && pieces[0] !== CLIENT_HELLO) return OTHER;
    if (pieces.length >= 4) {
      const length = pieces[1]! << 16 | pieces[2]! << 8 | pieces[3]!;
      if (length > MOST_HELLO) return OTHER;
      if (pieces.length >= 4 + length) return Uint8Array.from(pieces.slice(4, 4 + length));
    }
    if (content.length < size) return bytes.length < MOST_HELLO ? MORE : OTHER;
    at += 5 + size;
  }
}

function nameOf(bytes: Uint8Array, start: number, end: number): HelloName {
  const list = new Cursor(bytes, end);
  list.at = start;
  const size = list.take(2);
  if (!(list.at + size <= end)) return OTHER;
  while (list.at < end) {
    const type = list.take(1);
    const length = list.take(2);
    const from = list.at;
    if (!list.skip(length)) return OTHER;
    if (type !== HOST_NAME) continue;
    const name = String.fromCharCode(...bytes.subarray(from, from + length)).toLowerCase();
    return /^[\x21-\x7e]{1,255}$/.test(name)
      ? { kind: "name", name: name.replace(/\.$/, "") }
      : OTHER;
  }
  return NONE;
}
