/**
 * ARP for IPv4 over Ethernet (RFC 826).
 *
 * ```text
 * 0 hardware type (1)   2 protocol type (0x0800)   4 lengths (6, 4)   6 operation
 * 8 sender's MAC   14 sender's address   18 target's MAC   24 target's address
 * ```
 *
 * @module
 */
import { EtherType } from "./ethernet.ts";

/** Bytes of a packet. */
export const ARP_BYTES = 28;

/** RFC 826: ares_op$REQUEST, ares_op$REPLY. */
export const ArpOperation = { REQUEST: 1, REPLY: 2 } as const;

/** A packet. */
export interface Arp {
  /** What is asked or said. */
  readonly operation: number;
  /** Hardware address of the sender. */
  readonly senderMac: Uint8Array;
  /** Address of the sender as a 32-bit number. */
  readonly sender: number;
  /** Hardware address of the target; zero in a request. */
  readonly targetMac: Uint8Array;
  /** Address of the target as a 32-bit number. */
  readonly target: number;
}

/** Reads a packet; undefined for what is too short or of other protocols. */
export function parseArp(bytes: Uint8Array): Arp | undefined {
  if (bytes.length < ARP_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, ARP_BYTES);
  if (view.getUint16(0) !== 1 || view.getUint16(2) !== EtherType.IPV4) return undefined;
  if (view.getUint8(4) !== 6 || view.getUint8(5) !== 4) return undefined;
  return {
    operation: view.getUint16(6),
    senderMac: bytes.subarray(8, 14),
    sender: view.getUint32(14),
    targetMac: bytes.subarray(18, 24),
    target: view.getUint32(24),
  };
}

/** The bytes of a packet. */
export function emitArp(arp: Arp): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ARP_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 1);
  view.setUint16(2, EtherType.IPV4);
  view.setUint8(4, 6);
  view.setUint8(5, 4);
  view.setUint16(6, arp.operation);
  bytes.set(arp.senderMac, 8);
  view.setUint32(14, arp.sender);
  bytes.set(arp.targetMac, 18);
  view.setUint32(24, arp.target);
  return bytes;
}
