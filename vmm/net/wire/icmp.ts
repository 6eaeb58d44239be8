/**
 * ICMP messages (RFC 792): type, code, checksum, four bytes that depend on the type, data.
 *
 * @module
 */
import { checksumOf, foldSum, sumWords } from "./checksum.ts";

/** Bytes before the data. */
export const ICMP_HEADER = 8;

/** https://www.iana.org/assignments/icmp-parameters */
export const IcmpType = { ECHO_REPLY: 0, UNREACHABLE: 3, ECHO_REQUEST: 8 } as const;

/** Codes of {@linkcode IcmpType.UNREACHABLE} (RFC 792, RFC 1812 section 5.2.7.1). */
export const Unreachable = { NETWORK: 0, HOST: 1, PORT: 3, PROHIBITED: 13 } as const;

/** A message. */
export interface Icmp {
  /** What it is. */
  readonly type: number;
  /** What kind of it. */
  readonly code: number;
  /** The four bytes after the checksum: of an echo, its identifier and sequence number. */
  readonly rest: number;
  /** What follows. */
  readonly data: Uint8Array;
}

/** Reads a message; undefined for one that is cut off or has a wrong checksum. */
export function parseIcmp(bytes: Uint8Array): Icmp | undefined {
  if (bytes.length < ICMP_HEADER || foldSum(sumWords(bytes)) !== 0xffff) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, ICMP_HEADER);
  return {
    type: view.getUint8(0),
    code: view.getUint8(1),
    rest: view.getUint32(4),
    data: bytes.subarray(ICMP_HEADER),
  };
}

/** The bytes of a message. */
export function emitIcmp({ type, code, rest, data }: Icmp): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ICMP_HEADER + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, type);
  view.setUint8(1, code);
  view.setUint32(4, rest);
  bytes.set(data, ICMP_HEADER);
  view.setUint16(2, checksumOf(sumWords(bytes)));
  return bytes;
}

/**
 * That a packet cannot be delivered.
 *
 * @param code of {@linkcode Unreachable}
 * @param packet from its IPv4 header on; its first bytes are sent back (RFC 792: header and 64 bits)
 * @param headerLength of its IPv4 header in bytes
 */
export function emitUnreachable(
  code: number,
  packet: Uint8Array,
  headerLength: number,
): Uint8Array<ArrayBuffer> {
  const data = packet.subarray(0, headerLength + 8);
  return emitIcmp({ type: IcmpType.UNREACHABLE, code, rest: 0, data });
}
