/**
 * Frames as a capture file that Wireshark and tcpdump read
 * (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html).
 *
 * Checksums that the guest's card would complete are not complete in it.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";

const MAGIC = 0xa1b2_c3d4; // times in microseconds
const LINKTYPE_ETHERNET = 1;
/** Most bytes of a frame that are kept. */
const SNAP_LENGTH = 65_549;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;

/** The first bytes of a file. */
export function pcapHeader(): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(FILE_HEADER));
  view.setUint32(0, MAGIC);
  view.setUint16(4, 2); // version 2.4
  view.setUint16(6, 4);
  view.setUint32(16, SNAP_LENGTH);
  view.setUint32(20, LINKTYPE_ETHERNET);
  return new Uint8Array(view.buffer);
}

/**
 * The record of a frame.
 *
 * @param frame from its Ethernet header on
 * @param time milliseconds since 1970
 */
export function pcapRecord(frame: Pieces, time: number): Uint8Array<ArrayBuffer> {
  const kept = Math.min(SNAP_LENGTH, frame.length);
  const bytes = new Uint8Array(RECORD_HEADER + kept);
  const view = new DataView(bytes.buffer);
  const micros = Math.floor(time * 1000);
  view.setUint32(0, Math.floor(micros / 1_000_000));
  view.setUint32(4, micros % 1_000_000);
  view.setUint32(8, kept);
  view.setUint32(12, frame.length);
  frame.read(bytes.subarray(RECORD_HEADER));
  return bytes;
}
