/**
 * The guest's buffers for frames, as the link that a network device gives: virtio 1.2, section
 * 5.1.6.3 and 5.1.6.4.
 *
 * With VIRTIO_NET_F_MRG_RXBUF a frame lies in as many chains as it needs, else in one.
 *
 * @module
 */
import { Pieces } from "../../../ffi/pieces.ts";
import { LEAST_FRAME, type Link, MOST_FRAME, type Offload } from "../../net/link.ts";
import { checksumOf, sumWords } from "../../net/wire/checksum.ts";
import type { DeviceMemory } from "../../virtio/memory.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { fillHeader, HEADER_BYTES } from "./header.ts";

/** Bytes for the guest in one turn: other devices have theirs in between. */
const TURN_BYTES = 1 << 20;

/** What the driver and the device have agreed on. */
export interface ReceiveFeatures {
  /** VIRTIO_NET_F_MRG_RXBUF. */
  readonly mergeable: boolean;
  /** VIRTIO_NET_F_GUEST_CSUM. */
  readonly checksums: boolean;
  /** VIRTIO_NET_F_GUEST_TSO4. */
  readonly segments: boolean;
}

/** Chains that were taken for a frame. */
interface Taken {
  readonly head: number;
  readonly bytes: number;
}

/** See the module. */
export class ReceiveQueue implements Link {
  readonly mtu: number;
  /** Frames that went to the guest. */
  frames = 0;
  /** Bytes of these. */
  bytes = 0;
  /** How often there was no buffer. */
  starved = 0;
  readonly #base: number;
  readonly #again: () => void;
  readonly #buffers = new Pieces();
  readonly #frame = new Pieces();
  readonly #header = new Uint8Array(HEADER_BYTES);
  #queue: VirtQueue | undefined;
  #features: ReceiveFeatures = { mergeable: false, checksums: false, segments: false };
  #taken: Taken[] = [];
  #turn = TURN_BYTES;

  /**
   * @param memory the guest's RAM
   * @param mtu most bytes of an IPv4 packet
   * @param again has the device begin another turn soon, and publish
   */
  constructor(memory: DeviceMemory, mtu: number, again: () => void) {
    this.#base = Number(memory.base);
    this.mtu = mtu;
    this.#again = again;
  }

  /** The driver is ready, or has gone. */
  use(queue: VirtQueue | undefined, features: ReceiveFeatures): void {
    this.#queue = queue;
    this.#features = features;
    this.#taken = [];
  }

  /** Another turn begins. */
  turn(): void {
    this.#turn = TURN_BYTES;
    this.#queue?.disableNotifications();
  }

  get largest(): number {
    const { checksums, segments } = this.#features;
    // 5.1.3.1: VIRTIO_NET_F_GUEST_TSO4 "Requires VIRTIO_NET_F_GUEST_CSUM"
    return checksums && segments ? MOST_FRAME : LEAST_FRAME + this.mtu;
  }

  reserve(wanted: number, least: number = wanted): Pieces | undefined {
    const queue = this.#queue;
    if (queue === undefined || queue.broken) return undefined;
    if (this.#turn <= 0) {
      this.#again();
      return undefined;
    }
    this.#buffers.clear();
    const { badChains } = queue;
    const found = this.#gather(queue, HEADER_BYTES + wanted, HEADER_BYTES + least);
    if (queue.badChains !== badChains) this.#again();
    if (!found) {
      this.#giveBack(queue, 0);
      this.starved++;
      return undefined;
    }
    return this.#buffers.slice(HEADER_BYTES, wanted, this.#frame);
  }

  /** Takes chains until they have room for `wanted` bytes; false when there are not even `least`. */
  #gather(queue: VirtQueue, wanted: number, least: number): boolean {
    const buffers = this.#buffers;
    while (buffers.length < wanted) {
      if (!queue.pop()) {
        if (buffers.length >= least) return true;
        // The guest has no buffer: it says when it has.
        if (!queue.enableNotifications()) return false;
        continue;
      }
      // 5.1.6.3.2: a buffer holds at least the header
      if (queue.writableBytes < HEADER_BYTES) {
        this.#refuse(queue);
        continue;
      }
      this.#taken.push({ head: queue.head, bytes: queue.writableBytes });
      const end = queue.readable + queue.writable;
      for (let i = queue.readable; i < end && !buffers.isFull; i++) {
        buffers.add(this.#base + queue.offsets[i]!, queue.lengths[i]!);
      }
      if (!this.#features.mergeable || buffers.isFull) break;
    }
    if (buffers.length >= least) return true;
    if (this.#features.mergeable && !buffers.isFull) return false;
    // One that is too short for this frame, or in too many parts, will not become longer.
    for (const { head } of this.#taken.splice(0)) {
      queue.push(head, 0);
      queue.badChains++;
    }
    return false;
  }

  #refuse(queue: VirtQueue): void {
    queue.push(queue.head, 0);
    queue.badChains++;
  }

  /** Puts back what was taken, but for the first chains. */
  #giveBack(queue: VirtQueue, kept: number): void {
    if (this.#taken.length > kept) queue.rewind(this.#taken.length - kept);
    this.#taken = [];
  }

  commit(length: number, offload?: Offload): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    if (length === 0) return this.#giveBack(queue, 0);
    let left = HEADER_BYTES + length;
    let chains = 0;
    while (left > 0) left -= this.#taken[chains++]!.bytes;
    const { checksums } = this.#features;
    if (offload !== undefined && !checksums) this.#sumUp(length, offload);
    fillHeader(this.#header, chains, checksums ? offload : undefined);
    this.#buffers.write(this.#header);
    left = HEADER_BYTES + length;
    for (let i = 0; i < chains; i++) {
      const { head, bytes } = this.#taken[i]!;
      queue.push(head, Math.min(left, bytes));
      left -= bytes;
    }
    this.#giveBack(queue, chains);
    this.#again();
    this.#turn -= length;
    this.frames++;
    this.bytes += length;
  }

  /** 5.1.6.4.1: without VIRTIO_NET_F_GUEST_CSUM a packet is "fully checksummed". */
  #sumUp(length: number, { checksumStart, checksumOffset }: Offload): void {
    const covered = new Uint8Array(length - checksumStart);
    this.#frame.read(covered, checksumStart);
    const checksum = checksumOf(sumWords(covered));
    const bytes = Uint8Array.of(checksum >> 8, checksum);
    this.#frame.write(bytes, checksumStart + checksumOffset);
  }
}
