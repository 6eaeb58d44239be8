/**
 * Network device: virtio 1.2, section 5.1. It moves frames between the guest's buffers and what it is
 * plugged into (vmm/net), and knows nothing of what is in them.
 *
 * @module
 */
import { Pieces } from "../../../ffi/pieces.ts";
import { LEAST_FRAME, MOST_FRAME, type NetworkPort, type Plug } from "../../net/link.ts";
import type { Activation, Device, DeviceHost, DeviceState } from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { savedNumber } from "../../virtio/saved.ts";
import { HEADER_BYTES } from "./header.ts";
import { ReceiveQueue } from "./receive_queue.ts";

const VIRTIO_ID_NET = 1;
const RX = 0; // 5.1.2: receiveq1, transmitq1
const TX = 1;
const QUEUE_SIZE = 256;

// 5.1.3
const VIRTIO_NET_F_CSUM = 0n;
const VIRTIO_NET_F_GUEST_CSUM = 1n;
const VIRTIO_NET_F_MTU = 3n;
const VIRTIO_NET_F_MAC = 5n;
const VIRTIO_NET_F_GUEST_TSO4 = 7n;
const VIRTIO_NET_F_HOST_TSO4 = 11n;
const VIRTIO_NET_F_MRG_RXBUF = 15n;
const VIRTIO_NET_F_STATUS = 16n;
const OFFERED = [
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  Feature.EVENT_IDX,
  Feature.VERSION_1,
];

// 5.1.4, struct virtio_net_config: u8 mac[6], le16 status, le16 max_virtqueue_pairs, le16 mtu
const CONFIG_BYTES = 12;
const STATUS = 6;
const MTU = 10;
const VIRTIO_NET_S_LINK_UP = 1;

/** Bytes that are taken from the guest in one turn: other devices have theirs in between. */
const TURN_BYTES = 1 << 20;

/** What the device is made from. */
export interface NetOptions {
  /** The guest's hardware address, six bytes. */
  readonly mac: Uint8Array;
  /** Most bytes of an IPv4 packet; 68 (RFC 791) to 65535. */
  readonly mtu: number;
  /** Whether the link is up at first; down when absent. */
  readonly up?: boolean;
}

/** What the main thread asks of the device. */
export interface NetRequest<Settings = never> {
  /** Pulls the plug, or puts it in. */
  readonly up: boolean;
  /** What holds from now on for what it is plugged into; as before when absent. */
  readonly settings?: Settings | undefined;
}

/** A network card. */
export class NetDevice<Settings = never> implements Device<NetRequest<Settings>> {
  readonly name = "net";
  readonly deviceId = VIRTIO_ID_NET;
  readonly features: bigint = OFFERED.reduce((all, bit) => all | 1n << bit, 0n);
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array = new Uint8Array(CONFIG_BYTES);
  readonly #host: DeviceHost;
  readonly #port: NetworkPort<Settings>;
  readonly #receive: ReceiveQueue;
  readonly #base: number;
  readonly #frame = new Pieces();
  #transmit: VirtQueue | undefined;
  #up: boolean;
  #active = false;
  /** The guest of a snapshot saw the link in another state. */
  #changed = false;
  #scheduled = false;
  /** No frames are taken for a while. */
  #holds = false;
  #frames = 0;
  #bytes = 0;
  #badFrames = 0;

  /**
   * @param host what the device works with
   * @param options address and size
   * @param plug what it is plugged into
   */
  constructor(host: DeviceHost, options: NetOptions, plug: Plug<Settings>) {
    this.#host = host;
    this.#base = Number(host.memory.base);
    this.#up = options.up ?? false;
    this.config.set(options.mac.subarray(0, 6));
    const view = new DataView(this.config.buffer);
    view.setUint16(STATUS, this.#up ? VIRTIO_NET_S_LINK_UP : 0, true);
    view.setUint16(MTU, options.mtu, true);
    this.#receive = new ReceiveQueue(host.memory, options.mtu, () => this.#schedule());
    this.#port = plug(this.#receive);
  }

  counters(): Readonly<Record<string, number>> {
    const { frames, bytes, starved } = this.#receive;
    return {
      up: Number(this.#up),
      receivedFrames: frames,
      receivedBytes: bytes,
      starved,
      sentFrames: this.#frames,
      sentBytes: this.#bytes,
      badFrames: this.#badFrames,
      ...this.#port.counters(),
    };
  }

  activate({ features, queues }: Activation): void {
    const has = (bit: bigint) => (features >> bit & 1n) === 1n;
    this.#active = true;
    this.#transmit = queues[TX];
    this.#receive.use(queues[RX], {
      mergeable: has(VIRTIO_NET_F_MRG_RXBUF),
      checksums: has(VIRTIO_NET_F_GUEST_CSUM),
      segments: has(VIRTIO_NET_F_GUEST_TSO4),
    });
    if (this.#changed) this.#showStatus();
  }

  #showStatus(): void {
    this.#changed = false;
    const status = this.#up ? VIRTIO_NET_S_LINK_UP : 0;
    this.#host.updateConfig((config) => config[STATUS] = status);
  }

  handleQueue(index: number): void {
    if (index === TX) return this.#take();
    this.#scheduled = false;
    this.#receive.turn();
    if (this.#up) this.#port.ready();
    this.#host.publish(RX);
  }

  /** Has the receive queue's turn come, once however many frames there are for it. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#host.again(RX);
  }

  #take(): void {
    const queue = this.#transmit;
    if (queue === undefined || this.#holds) return;
    queue.disableNotifications();
    const end = this.#bytes + TURN_BYTES;
    let hold = 0;
    for (let budget = queue.size; budget > 0 && this.#bytes < end; budget--) {
      hold = this.#up ? this.#port.holdOff?.() ?? 0 : 0;
      if (hold > 0 || !queue.pop()) break;
      const { head } = queue;
      this.#handleFrame(queue);
      queue.push(head, 0);
    }
    if (this.#up) this.#port.flush();
    this.#host.publish(TX);
    if (hold > 0) {
      this.#holds = true;
      this.#host.after(Math.ceil(hold), () => {
        this.#holds = false;
        this.#take();
      });
      return;
    }
    if (queue.enableNotifications()) this.#host.again(TX);
  }

  #handleFrame(queue: VirtQueue): void {
    const length = queue.readableBytes - HEADER_BYTES;
    // What is to be done yet to a frame (5.1.6.2) is of no interest: nothing here sends it further.
    if (length < LEAST_FRAME || length > MOST_FRAME || queue.writable > 0) {
      this.#badFrames++;
      return;
    }
    this.#frames++;
    this.#bytes += length;
    if (!this.#up) return; // a cable that is not plugged in
    const frame = this.#frame;
    frame.clear();
    let skip = HEADER_BYTES;
    for (let i = 0; i < queue.readable; i++) {
      const size = queue.lengths[i]!;
      const part = Math.min(skip, size);
      frame.add(this.#base + queue.offsets[i]! + part, size - part);
      skip -= part;
    }
    this.#port.receive(frame);
  }

  request({ up, settings }: NetRequest<Settings>): void {
    if (settings !== undefined) this.#port.configure(settings);
    if (up === this.#up) return;
    this.#up = up;
    this.#showStatus();
    if (!up) this.#port.reset();
    else if (this.#active) this.#schedule();
  }

  reset(): void {
    this.#active = false;
    this.#scheduled = false;
    this.#holds = false;
    this.#transmit = undefined;
    this.#receive.use(undefined, { mergeable: false, checksums: false, segments: false });
    this.#port.reset();
  }

  save(): DeviceState {
    return { up: Number(this.#up), port: this.#port.save() };
  }

  restore(state: DeviceState): void {
    // The configuration is the snapshot's; the link is as this run has it.
    this.#changed = savedNumber(state, "up", 2) !== Number(this.#up);
    this.#port.restore((state as { readonly port?: DeviceState }).port ?? null);
  }

  [Symbol.dispose](): void {
    this.#port[Symbol.dispose]();
  }
}
