/**
 * The header of vsock packets: virtio 1.2, 5.10.6, struct virtio_vsock_hdr.
 *
 * @module
 */

/** Bytes of the header. */
export const HEADER_BYTES = 44;
/** 5.10.6: the CID of the host. */
export const VSOCK_CID_HOST = 2;
/** 5.10.6: VIRTIO_VSOCK_TYPE_STREAM. */
export const TYPE_STREAM = 1;

/** Operations: 5.10.6, enum virtio_vsock_op. */
export const Op = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

/** Flags of {@linkcode Op}`.SHUTDOWN`: 5.10.6.5. */
export const Shutdown = { RECEIVE: 1, SEND: 2, BOTH: 3 } as const;

const SRC_CID = 0;
const DST_CID = 8;
const SRC_PORT = 16;
const DST_PORT = 20;
const LEN = 24;
const TYPE = 28;
const OP = 30;
const FLAGS = 32;
const BUF_ALLOC = 36;
const FWD_CNT = 40;

/** One header at a time, reused: read its fields after filling {@linkcode PacketHeader.bytes}. */
export class PacketHeader {
  /** The header as it is in a queue. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(HEADER_BYTES);
  readonly #view = new DataView(this.bytes.buffer);

  #u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  #cid(offset: number): number {
    return this.#u32(offset + 4) * 0x1_0000_0000 + this.#u32(offset);
  }

  /** Who sent it; may be rounded beyond 2^53, where no CID is. */
  get sourceCid(): number {
    return this.#cid(SRC_CID);
  }
  /** For whom it is. */
  get destinationCid(): number {
    return this.#cid(DST_CID);
  }
  /** Port of the sender. */
  get sourcePort(): number {
    return this.#u32(SRC_PORT);
  }
  /** Port of the receiver. */
  get destinationPort(): number {
    return this.#u32(DST_PORT);
  }
  /** Bytes of payload. */
  get length(): number {
    return this.#u32(LEN);
  }
  /** Socket type. */
  get type(): number {
    return this.#view.getUint16(TYPE, true);
  }
  /** {@linkcode Op}. */
  get op(): number {
    return this.#view.getUint16(OP, true);
  }
  /** Flags of the operation. */
  get flags(): number {
    return this.#u32(FLAGS);
  }
  /** Bytes that the sender buffers for this stream. */
  get bufAlloc(): number {
    return this.#u32(BUF_ALLOC);
  }
  /** Bytes of this stream that the sender has passed on, modulo 2^32. */
  get fwdCnt(): number {
    return this.#u32(FWD_CNT);
  }

  /** Fills all fields of a packet from the host. */
  set(
    guestCid: number,
    sourcePort: number,
    destinationPort: number,
    type: number,
    op: number,
    flags: number,
    length: number,
    bufAlloc: number,
    fwdCnt: number,
  ): void {
    const view = this.#view;
    view.setUint32(SRC_CID, VSOCK_CID_HOST, true);
    view.setUint32(SRC_CID + 4, 0, true);
    view.setUint32(DST_CID, guestCid, true);
    view.setUint32(DST_CID + 4, 0, true);
    view.setUint32(SRC_PORT, sourcePort, true);
    view.setUint32(DST_PORT, destinationPort, true);
    view.setUint32(LEN, length, true);
    view.setUint16(TYPE, type, true);
    view.setUint16(OP, op, true);
    view.setUint32(FLAGS, flags, true);
    view.setUint32(BUF_ALLOC, bufAlloc, true);
    view.setUint32(FWD_CNT, fwdCnt, true);
  }
}
