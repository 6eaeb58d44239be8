/**
 * Entropy device: virtio 1.2, section 5.4.
 *
 * @module
 */
import { check, libc } from "../../../ffi/libc.ts";
import type { Device, DeviceState } from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { RequestQueueDevice } from "../../virtio/request_queue.ts";

const VIRTIO_ID_RNG = 4; // virtio 1.2, section 5

/** The most that one request gets, in bytes; 5.4.6.2 allows less than was asked for. */
const MAX_REQUEST = 4096;

/** Random bytes from the host's kernel. */
export class RngDevice extends RequestQueueDevice implements Device {
  readonly name = "rng";
  readonly deviceId = VIRTIO_ID_RNG;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX;
  readonly queueSizes: readonly number[] = [16];
  readonly config: Uint8Array = new Uint8Array(0);
  readonly #bytes = new Uint8Array(MAX_REQUEST);

  protected override answer(queue: VirtQueue): number {
    const wanted = this.#bytes.subarray(0, Math.min(queue.writableBytes, MAX_REQUEST));
    // getrandom(2): up to 256 bytes are never cut short by a signal, more may be.
    const got = check("getrandom", libc().getrandom(wanted, BigInt(wanted.length), 0));
    return queue.write(wanted.subarray(0, got));
  }

  save(): DeviceState {
    return null;
  }

  restore(_state: DeviceState): void {}

  [Symbol.dispose](): void {
    this.#bytes.fill(0);
  }
}
