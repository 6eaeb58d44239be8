/**
 * A vCPU thread as the main thread sees it.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { kvm_run } from "../ffi/uapi/kvm.ts";
import { installKick, kickThread } from "./kick.ts";
import type { KvmVcpu } from "./kvm_vcpu.ts";
import type { FromVcpu, ToVcpu, VcpuDescription, VcpuExit } from "./messages.ts";
import { Command, type ExitCounts, State, VcpuControl } from "./vcpu_control.ts";

/** Owns a worker. */
export class VcpuThread implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #control = new VcpuControl();
  readonly #ended = Promise.withResolvers<VcpuExit>();
  readonly #loaded = Promise.withResolvers<void>();
  #immediateExit: Uint8Array | undefined;
  #started = false;

  /** @param onSerialRoom called when the serial port can take input again */
  constructor(onSerialRoom: () => void) {
    installKick();
    this.#worker = new Worker(new URL("./vcpu_worker.ts", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<FromVcpu>) => {
      switch (data.type) {
        case "loaded":
          return this.#loaded.resolve();
        case "serial-room":
          return onSerialRoom();
        case "ended":
          return this.#ended.resolve(data.exit);
        default:
          data satisfies never;
      }
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#loaded.reject(
        new CloudletError(`Cannot start a vCPU thread: ${event.message}`, { code: "internal" }),
      );
      this.#ended.resolve({ kind: "internal-error", message: event.message });
    };
    this.#loaded.promise.catch(() => {}); // who waits gets it
  }

  /** Settles when the worker's module is loaded. */
  get loaded(): Promise<void> {
    return this.#loaded.promise;
  }

  /** Why the vCPU stopped for good. */
  get ended(): Promise<VcpuExit> {
    return this.#ended.promise;
  }

  /** How often the vCPU left the kernel. */
  get counts(): ExitCounts {
    return this.#control.counts;
  }

  /** See {@linkcode VcpuControl.enteredAt}. */
  get enteredAt(): number {
    return this.#control.enteredAt;
  }

  /** The words for the description. */
  get shared(): SharedArrayBuffer {
    return this.#control.shared;
  }

  /** Hands the vCPU to the thread, which does not run it before {@linkcode resume}. */
  start(vcpu: KvmVcpu, description: VcpuDescription): void {
    this.#immediateExit = new Uint8Array(vcpu.run.buffer, kvm_run.offsets.immediate_exit, 1);
    this.#started = true;
    const message: ToVcpu = { type: "run", description };
    this.#worker.postMessage(message);
  }

  /** Lets the vCPU run; it does so a moment later. */
  resume(): void {
    this.#control.command = Command.Run;
  }

  /** Stops the vCPU between two instructions; it can go on. */
  async pause(): Promise<void> {
    this.#control.command = Command.Pause;
    this.#kick();
    await this.#control.reached(State.Paused, State.Ended);
  }

  /** Ends the vCPU's thread, whatever the guest does. */
  async stop(): Promise<VcpuExit> {
    if (!this.#started) return { kind: "stopped" };
    this.#control.command = Command.Stop;
    this.#kick();
    return await this.ended;
  }

  /** Stops the vCPU and ends the worker. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#worker.terminate();
  }

  #kick(): void {
    if (!this.#started || this.#control.state === State.Ended) return;
    // In this order: a thread on its way into KVM_RUN sees the byte, one inside it the signal.
    this.#immediateExit![0] = 1;
    if (this.#control.tid !== 0) kickThread(this.#control.tid);
  }
}
