/**
 * Devices with a single queue, on which the driver puts requests: each is answered and given back.
 *
 * @module
 */
import { type Activation, type DeviceHost, drain } from "./device.ts";
import type { VirtQueue } from "./queue.ts";

const REQUESTS = 0;

/** What such devices share; a device adds what it is and how it answers. */
export abstract class RequestQueueDevice {
  /** What the device works with. */
  protected readonly host: DeviceHost;
  #queue: VirtQueue | undefined;
  /** A request waits for its time. */
  #holds = false;

  /** @param host what the device works with */
  constructor(host: DeviceHost) {
    this.host = host;
  }

  /** Answers the request in the chain at hand; returns how many bytes it wrote to it. */
  protected abstract answer(queue: VirtQueue): number;

  /** Milliseconds that the request in the chain at hand, and with it those behind it, has to wait. */
  protected holdOff(_queue: VirtQueue): number {
    return 0;
  }

  /** See Device.activate. */
  activate(activation: Activation): void {
    this.#queue = activation.queues[REQUESTS];
  }

  /** See Device.handleQueue. */
  handleQueue(_queue: number): void {
    if (this.#queue === undefined || this.#holds) return;
    const wait = drain(
      this.host,
      REQUESTS,
      this.#queue,
      (queue) => this.answer(queue),
      (queue) => this.holdOff(queue),
    );
    if (wait === 0) return;
    this.#holds = true;
    this.host.after(Math.ceil(wait), () => {
      this.#holds = false;
      this.handleQueue(REQUESTS);
    });
  }

  /** See Device.reset. */
  reset(): void {
    this.#queue = undefined;
    this.#holds = false;
  }
}
