/**
 * UDP headers (RFC 768): source port, destination port, length, checksum.
 *
 * @module
 */
import { checksumOf, pseudoSum, sumWords } from "./checksum.ts";
import { Protocol } from "./ipv4.ts";

/** Bytes of a header. */
export const UDP_HEADER = 8;

/** A header. */
export interface UdpHeader {
  /** Port of the sender. */
  readonly source: number;
  /** Port that it is for. */
  readonly destination: number;
  /** Bytes of header and payload. */
  readonly length: number;
}

/**
 * Reads a header; undefined for one that is cut off or tells a wrong length.
 *
 * @param bytes that begin with it
 * @param available bytes of the datagram that have come, when `bytes` are not all of them
 */
export function parseUdp(
  bytes: Uint8Array,
  available: number = bytes.length,
): UdpHeader | undefined {
  if (bytes.length < UDP_HEADER) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, UDP_HEADER);
  const length = view.getUint16(4);
  if (length < UDP_HEADER || length > available) return undefined;
  return { source: view.getUint16(0), destination: view.getUint16(2), length };
}

/**
 * The bytes of a datagram.
 *
 * @param addresses of sender and receiver as 32-bit numbers, which the checksum covers
 */
export function emitUdp(
  { source, destination }: Pick<UdpHeader, "source" | "destination">,
  payload: Uint8Array,
  addresses: { readonly source: number; readonly destination: number },
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(UDP_HEADER + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, source);
  view.setUint16(2, destination);
  view.setUint16(4, bytes.length);
  bytes.set(payload, UDP_HEADER);
  const pseudo = pseudoSum(addresses.source, addresses.destination, Protocol.UDP, bytes.length);
  // RFC 768: a checksum of zero is sent as all ones, zero says that there is none
  view.setUint16(6, checksumOf(sumWords(bytes, pseudo)) || 0xffff);
  return bytes;
}
