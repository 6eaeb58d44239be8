/**
 * Console: virtio 1.2, section 5.3, one port. Far fewer exits than a UART: a write is one kick.
 *
 * @module
 */
import type { Activation, Device, DeviceHost, DeviceState } from "../../virtio/device.ts";
import { Feature } from "../../virtio/mmio.ts";
import type { VirtQueue } from "../../virtio/queue.ts";

const VIRTIO_ID_CONSOLE = 3;
const VIRTIO_CONSOLE_F_SIZE = 0n;
const RECEIVE = 0;
const TRANSMIT = 1;

/** The most output that the main thread has not taken yet, in bytes; one chain brings no more. */
const MAX_OUTPUT = 1 << 20;
/** Bytes that an event counts for at least: a guest may write them one by one. */
const LEAST_COST = 1024;
/** The most input that waits for the guest, in bytes. */
const MAX_INPUT = 1 << 20;

/** A terminal's size in characters. */
export interface ConsoleSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** What the main thread asks of a console. */
export type ConsoleRequest =
  /** Type at it. What does not fit is dropped, as a terminal does. */
  | { readonly kind: "input"; readonly bytes: Uint8Array }
  /** The terminal has another size now. */
  | { readonly kind: "resize"; readonly size: ConsoleSize }
  /** So many bytes of output, an event, were taken. */
  | { readonly kind: "taken"; readonly length: number };

/** The console. Its events are the guest's output. */
export class ConsoleDevice implements Device<ConsoleRequest> {
  readonly name = "console";
  readonly deviceId = VIRTIO_ID_CONSOLE;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX |
    1n << VIRTIO_CONSOLE_F_SIZE;
  readonly queueSizes: readonly number[] = [16, 64];
  // 5.3.4, struct virtio_console_config: le16 cols, le16 rows, le32 max_nr_ports, le32 emerg_wr.
  readonly config: Uint8Array = new Uint8Array(12);
  readonly #host: DeviceHost;
  #queues: Activation["queues"] = [];
  #input: Uint8Array[] = [];
  #waiting = 0;
  /** How much more may be posted before the main thread has taken some. */
  #credit = MAX_OUTPUT;

  /**
   * @param host what the device works with
   * @param size of the terminal
   */
  constructor(host: DeviceHost, size: ConsoleSize = { columns: 80, rows: 24 }) {
    this.#host = host;
    setSize(this.config, size);
  }

  request(request: ConsoleRequest): void {
    switch (request.kind) {
      case "input":
        return this.#type(request.bytes);
      case "resize":
        return this.#host.updateConfig((config) => setSize(config, request.size));
      case "taken":
        this.#credit = Math.min(MAX_OUTPUT, this.#credit + cost(request.length));
        return this.handleQueue(TRANSMIT);
      default:
        request satisfies never;
    }
  }

  counters(): Readonly<Record<string, number>> {
    return { inputBytes: this.#waiting };
  }

  #type(bytes: Uint8Array): void {
    const taken = bytes.slice(0, MAX_INPUT - this.#waiting);
    if (taken.length > 0) this.#input.push(taken);
    this.#waiting += taken.length;
    this.handleQueue(RECEIVE);
  }

  activate(activation: Activation): void {
    this.#queues = activation.queues;
  }

  handleQueue(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined) return;
    if (index === TRANSMIT) this.#transmit(queue);
    else this.#receive(queue);
  }

  /** Posts what the guest wrote, as far as there is credit: the rest stays in the queue. */
  #transmit(queue: VirtQueue): void {
    queue.disableNotifications();
    const chunks: Uint8Array[] = [];
    let total = 0;
    let full = false;
    for (let budget = queue.size; budget > 0 && queue.pop(); budget--) {
      const length = Math.min(queue.readableBytes, MAX_OUTPUT);
      full = cost(total + length) > this.#credit;
      if (full) {
        queue.unpop();
        break;
      }
      const chunk = new Uint8Array(length);
      queue.read(chunk);
      chunks.push(chunk);
      total += length;
      queue.push(queue.head, 0);
    }
    if (total > 0) {
      this.#credit -= cost(total);
      this.#host.post(joined(chunks, total));
    }
    this.#host.publish(TRANSMIT);
    if (!full && queue.enableNotifications()) this.#host.again(TRANSMIT);
  }

  #receive(queue: VirtQueue): void {
    while (
      this.#input.length > 0 && (queue.pop() || (queue.enableNotifications() && queue.pop()))
    ) {
      const first = this.#input[0]!;
      const written = queue.write(first);
      queue.push(queue.head, written);
      this.#waiting -= written;
      if (written === first.length) this.#input.shift();
      else this.#input[0] = first.subarray(written);
    }
    this.#host.publish(RECEIVE);
  }

  reset(): void {
    this.#queues = [];
  }

  save(): DeviceState {
    return null; // input that waits stays with the terminal where it was typed
  }

  restore(_state: DeviceState): void {
    this.#input = [];
    this.#waiting = 0;
  }

  [Symbol.dispose](): void {
    this.#input = [];
  }
}

function setSize(config: Uint8Array, { columns, rows }: ConsoleSize): void {
  const view = new DataView(config.buffer, config.byteOffset);
  view.setUint16(0, columns, true);
  view.setUint16(2, rows, true);
}

function cost(bytes: number): number {
  return Math.max(bytes, LEAST_COST);
}

function joined(chunks: readonly Uint8Array[], total: number): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(total);
  let at = 0;
  for (const chunk of chunks) {
    result.set(chunk, at);
    at += chunk.length;
  }
  return result;
}
