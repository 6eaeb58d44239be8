/**
 * IPv4 headers (RFC 791 section 3.1).
 *
 * Options are skipped: none concerns a host that is the next hop of everything. Fragments are told
 * and not put together: the path between guest and host has one MTU, so none is made.
 *
 * @module
 */
import { ipv4Bytes } from "../../../base/addresses.ts";
import { checksumOf, foldSum, sumWords } from "./checksum.ts";

/** Bytes of a header without options. */
export const IPV4_HEADER = 20;

/** https://www.iana.org/assignments/protocol-numbers */
export const Protocol = { ICMP: 1, TCP: 6, UDP: 17 } as const;

/** Hops that a packet of ours may take: it takes one. */
const TTL = 64;

/** A header. */
export interface Ipv4Header {
  /** Bytes of the header. */
  readonly headerLength: number;
  /** Bytes of header and payload. */
  readonly totalLength: number;
  /** Whether it is a part of a larger packet. */
  readonly isFragment: boolean;
  /** What the payload is. */
  readonly protocol: number;
  /** Address as a 32-bit number. */
  readonly source: number;
  /** Address as a 32-bit number. */
  readonly destination: number;
}

/**
 * Reads a header.
 *
 * @param bytes that begin with it
 * @param available bytes of the packet that have come, when `bytes` are not all of them
 * @returns undefined for what is no IPv4 header, is cut off or has a wrong checksum
 */
export function parseIpv4(
  bytes: Uint8Array,
  available: number = bytes.length,
): Ipv4Header | undefined {
  if (bytes.length < IPV4_HEADER || bytes[0]! >> 4 !== 4) return undefined;
  const headerLength = (bytes[0]! & 15) * 4;
  if (headerLength < IPV4_HEADER || headerLength > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerLength);
  const totalLength = view.getUint16(2);
  if (totalLength < headerLength || totalLength > available) return undefined;
  // A header with its checksum sums up to all ones (RFC 1071).
  if (foldSum(sumWords(bytes.subarray(0, headerLength))) !== 0xffff) return undefined;
  return {
    headerLength,
    totalLength,
    // "More Fragments", or an offset: RFC 791, Flags and Fragment Offset
    isFragment: (view.getUint16(6) & 0x3fff) !== 0,
    protocol: view.getUint8(9),
    source: view.getUint32(12),
    destination: view.getUint32(16),
  };
}

/** What {@linkcode emitIpv4} says. */
export interface Ipv4Fields {
  /** What the payload is. */
  readonly protocol: number;
  /** Address as a 32-bit number. */
  readonly source: number;
  /** Address as a 32-bit number. */
  readonly destination: number;
  /** Bytes of the payload. */
  readonly payload: number;
}

/** Writes a header without options to the start of `bytes`. */
export function emitIpv4(bytes: Uint8Array, fields: Ipv4Fields): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, IPV4_HEADER);
  view.setUint16(0, 0x4500);
  view.setUint16(2, IPV4_HEADER + fields.payload);
  view.setUint16(4, 0); // RFC 6864: what is never fragmented needs no identification
  view.setUint16(6, 0x4000); // Don't Fragment
  view.setUint8(8, TTL);
  view.setUint8(9, fields.protocol);
  view.setUint16(10, 0);
  view.setUint32(12, fields.source);
  view.setUint32(16, fields.destination);
  view.setUint16(10, checksumOf(sumWords(bytes.subarray(0, IPV4_HEADER))));
}

/** An address as people write it. */
export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => address >>> shift & 255).join(".");
}

/** The number of an address; undefined for what is not four decimal numbers. */
export function parseAddress(text: string): number | undefined {
  return ipv4Bytes(text)?.reduce((address, byte) => address * 256 + byte, 0);
}
