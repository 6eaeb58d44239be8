/**
 * Console: virtio 1.2, section 5.3, one port. Far fewer exits than a UART: a write is one kick.
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

const VIRTIO_ID_CONSOLE = 3;
const VIRTIO_CONSOLE_F_SIZE = 0n;
const RECEIVE = 0;
const TRANSMIT = 1;

/** The most output that one request brings, in bytes; the rest is not taken. */
const MAX_OUTPUT = 1 << 20;
/** The most input that waits for the guest, in bytes. */
const MAX_INPUT = 1 << 20;

/** A terminal's size in characters. */
export interface ConsoleSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** The console. */
export class ConsoleDevice implements Device {
  readonly name = "console";
  readonly deviceId = VIRTIO_ID_CONSOLE;
  readonly features: bigint = 1n << Feature.VERSION_1 | 1n << Feature.EVENT_IDX |
    1n << VIRTIO_CONSOLE_F_SIZE;
  readonly queueSizes: readonly number[] = [16, 64];
  // 5.3.4, struct virtio_console_config: le16 cols, le16 rows, le32 max_nr_ports, le32 emerg_wr.
  readonly config: Uint8Array = new Uint8Array(12);
  readonly #host: DeviceHost;
  readonly #sink: (bytes: Uint8Array<ArrayBuffer>) => void;
  #queues: Activation["queues"] = [];
  #input: Uint8Array[] = [];
  #waiting = 0;

  /**
   * @param host what the device works with
   * @param sink takes the guest's output; the bytes are its own
   * @param size of the terminal
   */
  constructor(
    host: DeviceHost,
    sink: (bytes: Uint8Array<ArrayBuffer>) => void,
    size: ConsoleSize = { columns: 80, rows: 24 },
  ) {
    this.#host = host;
    this.#sink = sink;
    const view = new DataView(this.config.buffer);
    view.setUint16(0, size.columns, true);
    view.setUint16(2, size.rows, true);
  }

  /**
   * Types at the console. What does not fit is dropped, as a terminal does.
   *
   * @param bytes the input
   * @returns how many bytes were taken
   */
  input(bytes: Uint8Array): number {
    const taken = bytes.slice(0, MAX_INPUT - this.#waiting);
    if (taken.length > 0) this.#input.push(taken);
    this.#waiting += taken.length;
    this.handleQueue(RECEIVE);
    return taken.length;
  }

  /** Tells the guest that the terminal has another size now. */
  resize(size: ConsoleSize): void {
    this.#host.updateConfig((config) => {
      const view = new DataView(config.buffer, config.byteOffset);
      view.setUint16(0, size.columns, true);
      view.setUint16(2, size.rows, true);
    });
  }

  activate(activation: Activation): void {
    this.#queues = activation.queues;
  }

  handleQueue(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined) return;
    if (index === TRANSMIT) {
      drain(this.#host, index, queue, (queue) => {
        const bytes = new Uint8Array(Math.min(queue.readableBytes, MAX_OUTPUT));
        this.#sink(bytes.subarray(0, queue.read(bytes)));
        return 0;
      });
      return;
    }
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
    this.#host.publish(index);
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
