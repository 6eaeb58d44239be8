/**
 * Entropy device: virtio 1.2, section 5.4.
 *
 * @module
 */
import { check, libc } from "../../ffi/libc.ts";
import {
  type Activation,
  type Device,
  type DeviceHost,
  type DeviceState,
  drain,
} from "../virtio/device.ts";
import { Feature } from "../virtio/mmio.ts";
import type { VirtQueue } from "../virtio/queue.ts";

const VIRTIO_ID_RNG = 4; // virtio 1.2, section 5
const REQUESTS = 0;

/** The most that one request gets, in bytes; 5.4.6.2 allows less than was asked for. */
const MAX_REQUEST = 4096;

/** Random bytes from the host's kernel. */
export class RngDevice implements Device {
  readonly name = "rng";
  readonly deviceId = VIRTIO_ID_RNG;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX;
  readonly queueSizes: readonly number[] = [16];
  readonly config: Uint8Array = new Uint8Array(0);
  readonly #host: DeviceHost;
  readonly #bytes = new Uint8Array(MAX_REQUEST);
  #queue: VirtQueue | undefined;

  /** @param host what the device works with */
  constructor(host: DeviceHost) {
    this.#host = host;
  }

  activate(activation: Activation): void {
    this.#queue = activation.queues[REQUESTS];
  }

  handleQueue(_queue: number): void {
    if (this.#queue === undefined) return;
    drain(this.#host, REQUESTS, this.#queue, (queue) => this.#fill(queue));
  }

  #fill(queue: VirtQueue): number {
    const wanted = this.#bytes.subarray(0, Math.min(queue.writableBytes, MAX_REQUEST));
    // getrandom(2): up to 256 bytes are never cut short by a signal, more may be.
    const got = check("getrandom", libc().getrandom(wanted, BigInt(wanted.length), 0));
    return queue.write(wanted.subarray(0, got));
  }

  reset(): void {
    this.#queue = undefined;
  }

  save(): DeviceState {
    return null;
  }

  restore(_state: DeviceState): void {}

  [Symbol.dispose](): void {
    this.#bytes.fill(0);
  }
}
