/**
 * The main thread's end of the serial console: what the guest sends comes out of the ring, what is typed
 * goes into the port as it has room.
 *
 * @module
 */
import { ByteRing } from "./byte_ring.ts";
import { ConsoleLog } from "./console_log.ts";
import { Serial } from "./serial.ts";
import { serialInterrupt } from "../vcpu/vcpu_loop.ts";

const CONSOLE_RING = 64 * 1024; // bytes

/** Moves the bytes. */
export class SerialPump {
  /** Registers of the port, which all threads share. */
  readonly state: SharedArrayBuffer = Serial.createState();
  /** The end of what the guest sent. */
  readonly log: ConsoleLog = new ConsoleLog();
  readonly #ring = new ByteRing(ByteRing.createState(CONSOLE_RING));
  readonly #port: Serial;
  readonly #drained: Promise<void>;
  readonly #input: { bytes: Uint8Array; readonly taken: () => void }[] = [];
  #closed = false;
  /** Called when the guest has said that it has switched itself off. */
  onDown: () => void = () => {};

  /**
   * @param vmFd descriptor of the VM, for the port's interrupt
   * @param output called with what the guest sends
   */
  constructor(vmFd: number, output: ((chunk: Uint8Array<ArrayBuffer>) => void) | undefined) {
    this.#port = new Serial(this.state, {
      output: (byte) => this.#ring.push(byte),
      room: () => this.#ring.room,
      interrupt: serialInterrupt(vmFd),
      roomForInput: () => this.feed(),
    });
    this.#drained = this.#drain(output);
  }

  /** The ring, for the threads that put bytes into it. */
  get ring(): SharedArrayBuffer {
    return this.#ring.shared;
  }

  /**
   * Types.
   *
   * @returns settles when the port has taken all of it, or the pump is closed
   */
  write(bytes: Uint8Array): Promise<void> {
    if (this.#closed || bytes.length === 0) return Promise.resolve();
    return new Promise((taken) => {
      this.#input.push({ bytes: bytes.slice(), taken });
      this.feed();
    });
  }

  /** Has the port take what it has room for. */
  feed(): void {
    for (let first; (first = this.#input[0]) !== undefined;) {
      const taken = this.#closed ? first.bytes.length : this.#port.receive(first.bytes);
      first.bytes = first.bytes.subarray(taken);
      if (first.bytes.length > 0) return; // the port tells when there is room
      this.#input.shift();
      first.taken();
    }
  }

  /** Takes no more input; whoever waits for it to be taken waits no longer. */
  close(): void {
    this.#closed = true;
    this.feed();
  }

  /** Takes what the guest sent last. Its vCPUs have ended. */
  async finish(): Promise<void> {
    this.#ring.close();
    await this.#drained;
  }

  async #drain(output: ((chunk: Uint8Array<ArrayBuffer>) => void) | undefined): Promise<void> {
    for (;;) {
      await this.#ring.ready();
      const chunk = this.#ring.drain();
      if (chunk.length > 0) {
        const wasDown = this.log.down;
        this.log.append(chunk);
        try {
          output?.(chunk);
        } catch (error) {
          reportError(error); // the caller's defect must not stop the guest's console
        }
        if (!wasDown && this.log.down) this.onDown();
      } else if (this.#ring.closed) {
        return;
      }
    }
  }
}
