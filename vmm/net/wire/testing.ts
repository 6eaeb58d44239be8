/**
 * For tests: the first bytes of a TLS client (RFC 8446 section 4.1.2).
 *
 * @module
 */

const sized = (bytes: readonly number[], width: 1 | 2 | 3) => [
  ...[16, 8, 0].slice(3 - width).map((shift) => bytes.length >> shift & 255),
  ...bytes,
];

/** A ClientHello in one record, with the name of the server or without one. */
export function clientHello(name?: string): Uint8Array {
  const host = [...new TextEncoder().encode(name ?? "")];
  const serverName = [0, 0, ...sized(sized([0, ...sized(host, 2)], 2), 2)];
  const versions = [0, 43, ...sized([2, 3, 4], 2)];
  const extensions = [...versions, ...(name === undefined ? [] : serverName)];
  const random = Array.from({ length: 32 }, (_, i) => i);
  const hello = [3, 3, ...random, 0, ...sized([19, 1], 2), 1, 0, ...sized(extensions, 2)];
  return Uint8Array.from([22, 3, 1, ...sized([1, ...sized(hello, 3)], 2)]);
}
