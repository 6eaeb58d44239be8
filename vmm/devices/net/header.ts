/**
 * What comes before each frame: virtio 1.2, section 5.1.6, struct virtio_net_hdr.
 *
 * ```text
 * 0 flags   1 gso_type   2 hdr_len   4 gso_size   6 csum_start   8 csum_offset   10 num_buffers
 * ```
 *
 * @module
 */
import type { Offload } from "../../net/link.ts";

/** Bytes of a header; num_buffers is in each of virtio 1. */
export const HEADER_BYTES = 12;

const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
const VIRTIO_NET_HDR_GSO_TCPV4 = 1;

/** Writes the header of a frame. */
export function fillHeader(bytes: Uint8Array, buffers: number, offload: Offload | undefined): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  bytes.fill(0, 0, HEADER_BYTES);
  view.setUint16(10, buffers, true);
  if (offload === undefined) return;
  view.setUint8(0, VIRTIO_NET_HDR_F_NEEDS_CSUM);
  view.setUint16(6, offload.checksumStart, true);
  view.setUint16(8, offload.checksumOffset, true);
  if (offload.segment === 0) return;
  view.setUint8(1, VIRTIO_NET_HDR_GSO_TCPV4);
  view.setUint16(2, offload.headers, true);
  view.setUint16(4, offload.segment, true);
}
