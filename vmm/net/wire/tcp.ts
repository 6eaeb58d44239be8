/**
 * TCP headers (RFC 9293 section 3.1) with the options that are used here: the maximum segment size
 * (section 3.7.1) and the window scale (RFC 7323 section 2).
 *
 * ```text
 * 0 source port   2 destination port   4 sequence number   8 acknowledgment number
 * 12 header length in words, flags   14 window   16 checksum   18 urgent pointer   20 options
 * ```
 *
 * @module
 */
import { foldSum, pseudoSum } from "./checksum.ts";
import { Protocol } from "./ipv4.ts";

/** Bytes of a header without options. */
export const TCP_HEADER = 20;
/** Most bytes of a header: the length has four bits and counts words. */
export const TCP_HEADER_MOST = 60;
/** Offset of the checksum in the header. */
export const TCP_CHECKSUM = 16;

/** Control bits. */
export const TcpFlag = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16, URG: 32 } as const;

/** https://www.iana.org/assignments/tcp-parameters, option kinds. */
const Option = { END: 0, NOP: 1, MSS: 2, WINDOW_SCALE: 3 } as const;
/** RFC 7323 section 2.3: a larger shift is to be taken as 14. */
const MOST_SHIFT = 14;

/** A header. */
export interface TcpHeader {
  /** Port of the sender. */
  readonly source: number;
  /** Port that it is for. */
  readonly destination: number;
  /** Of the first byte, or of SYN. */
  readonly sequence: number;
  /** The next byte that the sender expects. */
  readonly acknowledgment: number;
  /** Bits of {@linkcode TcpFlag}. */
  readonly flags: number;
  /** As in the header: not scaled. */
  readonly window: number;
  /** Most bytes of a segment that the sender takes; only with SYN. */
  readonly mss?: number | undefined;
  /** By how many bits the sender's windows are shifted; only with SYN. */
  readonly windowScale?: number | undefined;
}

/** A header that was read. */
export interface ParsedTcp extends TcpHeader {
  /** Bytes of the header. */
  readonly headerLength: number;
}

/** Reads a header; undefined for one that is cut off. Options that make no sense are not there. */
export function parseTcp(bytes: Uint8Array): ParsedTcp | undefined {
  if (bytes.length < TCP_HEADER) return undefined;
  const headerLength = (bytes[12]! >> 4) * 4;
  if (headerLength < TCP_HEADER || headerLength > bytes.length) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerLength);
  return {
    headerLength,
    source: view.getUint16(0),
    destination: view.getUint16(2),
    sequence: view.getUint32(4),
    acknowledgment: view.getUint32(8),
    flags: bytes[13]! & 0x3f,
    window: view.getUint16(14),
    ...parseOptions(view, headerLength),
  };
}

function parseOptions(
  view: DataView,
  end: number,
): Pick<TcpHeader, "mss" | "windowScale"> {
  let mss: number | undefined;
  let windowScale: number | undefined;
  for (let at = TCP_HEADER; at < end;) {
    const kind = view.getUint8(at);
    if (kind === Option.END) break;
    if (kind === Option.NOP) {
      at++;
      continue;
    }
    // Every other option has its length in the second byte (RFC 9293 section 3.2).
    const length = at + 1 < end ? view.getUint8(at + 1) : 0;
    if (length < 2 || at + length > end) break;
    if (kind === Option.MSS && length === 4) mss = view.getUint16(at + 2);
    if (kind === Option.WINDOW_SCALE && length === 3) {
      windowScale = Math.min(view.getUint8(at + 2), MOST_SHIFT);
    }
    at += length;
  }
  return { mss, windowScale };
}

/**
 * The bytes of a header.
 *
 * The checksum is that of the pseudo header alone, not complemented: the driver completes it over
 * header and payload (virtio 1.2 section 5.1.6.2, VIRTIO_NET_HDR_F_NEEDS_CSUM), or takes it as right.
 *
 * @param payload bytes that follow
 * @param addresses of sender and receiver as 32-bit numbers, which the checksum covers
 */
export function emitTcp(
  header: TcpHeader,
  payload: number,
  addresses: { readonly source: number; readonly destination: number },
): Uint8Array<ArrayBuffer> {
  const { mss, windowScale } = header;
  const length = TCP_HEADER + (mss === undefined ? 0 : 4) + (windowScale === undefined ? 0 : 4);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, header.source);
  view.setUint16(2, header.destination);
  view.setUint32(4, header.sequence);
  view.setUint32(8, header.acknowledgment);
  view.setUint8(12, length / 4 << 4);
  view.setUint8(13, header.flags);
  view.setUint16(14, header.window);
  let at = TCP_HEADER;
  if (mss !== undefined) {
    view.setUint16(at, Option.MSS << 8 | 4);
    view.setUint16(at + 2, mss);
    at += 4;
  }
  if (windowScale !== undefined) {
    view.setUint32(at, (Option.NOP << 24 | Option.WINDOW_SCALE << 16 | 3 << 8 | windowScale) >>> 0);
  }
  const total = length + payload;
  const pseudo = pseudoSum(addresses.source, addresses.destination, Protocol.TCP, total);
  view.setUint16(TCP_CHECKSUM, foldSum(pseudo));
  return bytes;
}
