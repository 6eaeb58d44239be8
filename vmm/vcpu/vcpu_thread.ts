/**
 * vCPUs as the main thread sees them: each has a thread of its own ({@linkcode VcpuThread}), or is one
 * of those that a thread has together ({@linkcode HostedVcpu}).
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { installKick, kickThread } from "./kick.ts";
import type { KvmVcpu } from "../kvm/kvm_vcpu.ts";
import type { FromVcpu, ToVcpu, VcpuDescription, VcpuExit } from "./vcpu_messages.ts";
import { runCallCode } from "./run_call.ts";
import { SharedWorkers, type Tenancy } from "../shared_workers.ts";
import { Command, type ExitCounts, ImmediateExit, State, VcpuControl } from "./vcpu_control.ts";

const MODULE = new URL("./vcpu_worker.ts", import.meta.url);
/** Steers one vCPU; who runs it is up to the classes below. */
export abstract class Vcpu implements AsyncDisposable {
  readonly #control = new VcpuControl();
  readonly #ended = Promise.withResolvers<VcpuExit>();
  readonly #onSerialRoom: () => void;
  #immediateExit: ImmediateExit | undefined;
  #started = false;

  /** @param onSerialRoom called when the serial port can take input again */
  constructor(onSerialRoom: () => void) {
    installKick();
    this.#onSerialRoom = onSerialRoom;
  }

  /** Settles when it can be started. */
  abstract get loaded(): Promise<void>;

  /** Hands it to the thread that runs it. */
  protected abstract hand(description: VcpuDescription): void;

  /** Lets go of the thread; the vCPU has ended. */
  protected abstract release(): void;

  /** Takes what the thread says of this vCPU. */
  protected heard(message: FromVcpu): void {
    switch (message.type) {
      case "loaded":
        return;
      case "serial-room":
        return this.#onSerialRoom();
      case "ended":
        return this.#ended.resolve(message.exit);
      default:
        message satisfies never;
    }
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

  /** Hands the vCPU to its thread, which does not run it before {@linkcode resume}. */
  start(vcpu: KvmVcpu, description: VcpuDescription): void {
    this.#immediateExit = new ImmediateExit(vcpu.run.buffer);
    this.#started = true;
    this.hand(description);
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

  /** Ends the vCPU, whatever the guest does. */
  async stop(): Promise<VcpuExit> {
    if (!this.#started) return { kind: "stopped" };
    this.#control.command = Command.Stop;
    this.#kick();
    return await this.ended;
  }

  /** Ends the vCPU and lets go of its thread. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.release();
  }

  #kick(): void {
    if (!this.#started || this.#control.state === State.Ended) return;
    // In this order: a thread on its way into KVM_RUN sees the byte, one inside it the signal.
    this.#immediateExit!.raise();
    if (this.#control.tid !== 0) kickThread(this.#control.tid);
  }
}

function cannotStart(why: string): CloudletError {
  return new CloudletError(`Cannot start a vCPU thread: ${why}`, { code: "internal" });
}

/** A vCPU with a thread of its own: nothing is quicker than its answers to the guest's exits. */
export class VcpuThread extends Vcpu {
  readonly #worker: Worker;
  readonly #loaded = Promise.withResolvers<void>();

  /** Starts the thread. */
  constructor(onSerialRoom: () => void) {
    super(onSerialRoom);
    this.#worker = new Worker(MODULE, { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<FromVcpu>) => {
      if (data.type === "loaded") this.#loaded.resolve();
      this.heard(data);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#loaded.reject(cannotStart(event.message));
      this.heard({
        type: "ended",
        exit: { kind: "internal-error", message: event.message },
      });
    };
    this.#loaded.promise.catch(() => {}); // who waits gets it
  }

  get loaded(): Promise<void> {
    return this.#loaded.promise;
  }

  protected hand(description: VcpuDescription): void {
    this.#worker.postMessage({ type: "run", description } satisfies ToVcpu);
  }

  protected release(): void {
    this.#worker.terminate();
  }
}

/**
 * Of one thread: Deno gives each 32 threads of its pool (tokio's max_blocking_threads), and a vCPU that
 * does not get one does not run.
 */
const VCPUS_OF_A_THREAD = 24;
const hosts = new SharedWorkers(MODULE, VCPUS_OF_A_THREAD, (worker) => () => ({
  post: (message, transfer) => worker.postMessage(message, transfer),
  end: () => worker.postMessage({ type: "end" } satisfies ToVcpu),
}));

/**
 * A vCPU that shares its JavaScript thread with others and runs on a thread of the runtime's pool. An
 * exit costs some ten microseconds more, and the vCPU itself nearly nothing, so this is for guests
 * that were restored: they leave KVM_RUN a hundred times for a program of a line.
 */
export class HostedVcpu extends Vcpu {
  readonly #tenancy: Tenancy = hosts.enter((why) =>
    this.heard({ type: "ended", exit: { kind: "internal-error", message: why } })
  );
  #port: MessagePort | undefined;

  get loaded(): Promise<void> {
    return this.#tenancy.loaded;
  }

  protected hand(description: VcpuDescription): void {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = ({ data }: MessageEvent<FromVcpu>) => this.heard(data);
    const message: ToVcpu = { type: "host", description, port: port2, code: runCallCode() };
    this.#tenancy.post(message, [port2]);
  }

  protected release(): void {
    this.#port?.close();
    this.#tenancy[Symbol.dispose]();
  }
}
