/**
 * Persistent memory: virtio 1.2, section 5.19. The guest reads the file through a memory slot of
 * its own, so that VMs with the same image share the host's page cache; the device only answers
 * flush requests.
 *
 * @module
 */
import type { Device, DeviceHost, DeviceState } from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import type { VirtQueue } from "../../virtio/queue.ts";
import { RequestQueueDevice } from "../../virtio/request_queue.ts";

const VIRTIO_ID_PMEM = 27;

// 5.19.6: struct virtio_pmem_req { le32 type; }, struct virtio_pmem_resp { le32 ret; }.
const VIRTIO_PMEM_REQ_TYPE_FLUSH = 0;
const EIO = 1; // 5.19.6.3.2: "VIRTIO_PMEM_RESP_TYPE_EIO"

/** The memory slot of a file. */
export interface PmemWindow {
  /** Guest-physical address of its first byte. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
}

/** A read-only file as memory. */
export class PmemDevice extends RequestQueueDevice implements Device {
  readonly name = "pmem";
  readonly deviceId = VIRTIO_ID_PMEM;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX;
  readonly queueSizes: readonly number[] = [16];
  readonly config: Uint8Array;
  readonly #request = new Uint8Array(4);

  /**
   * @param host what the device works with
   * @param window where the guest finds the file
   */
  constructor(host: DeviceHost, { start, size }: PmemWindow) {
    super(host);
    this.config = new Uint8Array(16); // 5.19.4: le64 start, le64 size
    const view = new DataView(this.config.buffer);
    view.setBigUint64(0, BigInt(start), true);
    view.setBigUint64(8, BigInt(size), true);
  }

  protected override answer(queue: VirtQueue): number {
    const request = this.#request;
    const complete = queue.read(request) === 4;
    const type = new DataView(request.buffer).getUint32(0, true);
    // The memory is read-only: whatever could be written was written before.
    const result = complete && type === VIRTIO_PMEM_REQ_TYPE_FLUSH ? 0 : EIO;
    return queue.write(Uint8Array.of(result, 0, 0, 0));
  }

  save(): DeviceState {
    return null;
  }

  restore(_state: DeviceState): void {}

  [Symbol.dispose](): void {}
}
