/**
 * Ethernet II frames: destination, source, type, payload (IEEE 802.3 clause 3.2.6).
 *
 * @module
 */

/** Bytes before the payload. */
export const ETHERNET_HEADER = 14;
/** Bytes of a hardware address. */
export const MAC_BYTES = 6;

/** https://www.iana.org/assignments/ieee-802-numbers */
export const EtherType = { IPV4: 0x0800, ARP: 0x0806 } as const;

/** The header of a frame. */
export interface EthernetHeader {
  /** Hardware address. */
  readonly destination: Uint8Array;
  /** Hardware address. */
  readonly source: Uint8Array;
  /** What the payload is. */
  readonly type: number;
}

/** Reads a header; undefined when there are too few bytes. */
export function parseEthernet(bytes: Uint8Array): EthernetHeader | undefined {
  if (bytes.length < ETHERNET_HEADER) return undefined;
  return {
    destination: bytes.subarray(0, MAC_BYTES),
    source: bytes.subarray(MAC_BYTES, 2 * MAC_BYTES),
    type: bytes[12]! << 8 | bytes[13]!,
  };
}

/** Writes a header to the start of `bytes`. */
export function emitEthernet(bytes: Uint8Array, header: EthernetHeader): void {
  bytes.set(header.destination, 0);
  bytes.set(header.source, MAC_BYTES);
  bytes[12] = header.type >> 8;
  bytes[13] = header.type & 255;
}
