/**
 * Memory balloon: virtio 1.2, section 5.5, with free page reporting. What the guest does not use
 * goes back to the host.
 *
 * @module
 */
import {
  type Activation,
  type Device,
  type DeviceHost,
  type DeviceState,
  drain,
} from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { savedNumber } from "../../virtio/saved.ts";

const VIRTIO_ID_BALLOON = 5;
const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 2n;
const VIRTIO_BALLOON_F_PAGE_REPORTING = 5n;

const INFLATE = 0;
const DEFLATE = 1;
// 5.5.2: the queues of features that are not offered do not exist, and the others move up.
const REPORTING = 2;

// 5.5.4, struct virtio_balloon_config: le32 num_pages, actual, free_page_hint_cmd_id, poison_val.
const NUM_PAGES = 0;
const ACTUAL = 4;
const CONFIG_BYTES = 16;

/** Bytes of a page of the balloon. */
export const PAGE = 4096; // 5.5.6: "a 32-bit array of ... guest-physical page numbers ... 4096 bytes"
const MAX_PAGES = 4096; // of one request; Linux sends 256

/** How many 4 KiB pages the balloon shall hold. */
export interface BalloonRequest {
  /** In the end; the guest takes its time. */
  readonly pages: number;
}

/** The balloon. */
export class BalloonDevice implements Device<BalloonRequest> {
  readonly name = "balloon";
  readonly deviceId = VIRTIO_ID_BALLOON;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX |
    1n << VIRTIO_BALLOON_F_DEFLATE_ON_OOM | 1n << VIRTIO_BALLOON_F_PAGE_REPORTING;
  readonly queueSizes: readonly number[] = [64, 64, 64];
  readonly config: Uint8Array = new Uint8Array(CONFIG_BYTES);
  readonly configWritable = [ACTUAL, ACTUAL + 4] as const;
  /** Pages that the balloon holds, as the driver says. */
  #actual = 0;
  /** Bytes given back to the host since the device was made. */
  #discarded = 0;
  readonly #host: DeviceHost;
  readonly #numbers = new Uint32Array(MAX_PAGES);
  #queues: Activation["queues"] = [];

  /** @param host what the device works with */
  constructor(host: DeviceHost) {
    this.#host = host;
  }

  /** Asks the guest to give memory up or to take it back. */
  request({ pages }: BalloonRequest): void {
    this.#host.updateConfig((config) =>
      new DataView(config.buffer, config.byteOffset).setUint32(NUM_PAGES, pages, true)
    );
  }

  counters(): Readonly<Record<string, number>> {
    return { pages: this.#actual, discardedBytes: this.#discarded };
  }

  activate(activation: Activation): void {
    this.#queues = activation.queues;
  }

  handleConfig(config: Uint8Array): void {
    this.#actual = new DataView(config.buffer, config.byteOffset).getUint32(ACTUAL, true);
  }

  handleQueue(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined) return;
    switch (index) {
      case INFLATE:
        drain(this.#host, index, queue, (queue) => this.#inflate(queue));
        break;
      case DEFLATE: // the pages come back by being touched
        drain(this.#host, index, queue, () => 0);
        break;
      case REPORTING:
        drain(this.#host, index, queue, (queue) => this.#report(queue));
        break;
    }
  }

  #inflate(queue: VirtQueue): number {
    const numbers = this.#numbers;
    const bytes = queue.read(new Uint8Array(numbers.buffer));
    const pages = numbers.subarray(0, bytes >> 2).sort();
    for (let i = 0; i < pages.length;) {
      const first = pages[i++]!;
      let next = first + 1;
      while (i < pages.length && pages[i]! <= next) next = Math.max(next, pages[i++]! + 1);
      const length = (next - first) * PAGE;
      const offset = this.#host.memory.offsetOf(first * PAGE, length);
      if (offset >= 0) this.#discard(offset, length);
    }
    return 0;
  }

  #report(queue: VirtQueue): number {
    // 5.5.6.7: the chain's writable buffers are the free pages themselves.
    for (let i = queue.readable; i < queue.readable + queue.writable; i++) {
      this.#discard(queue.offsets[i]!, queue.lengths[i]!);
    }
    return 0;
  }

  #discard(offset: number, length: number): void {
    const start = Math.ceil(offset / PAGE) * PAGE;
    const end = Math.floor((offset + length) / PAGE) * PAGE;
    if (end <= start) return;
    this.#host.discard(start, end - start);
    this.#discarded += end - start;
  }

  reset(): void {
    this.#queues = [];
    this.#actual = 0;
  }

  save(): DeviceState {
    return { actual: this.#actual };
  }

  restore(state: DeviceState): void {
    this.#actual = savedNumber(state, "actual", 2 ** 32);
  }

  [Symbol.dispose](): void {}
}
