/**
 * The devices of one VM as the main thread sees them: starts the device worker, tells the kernel
 * and KVM where the devices are, and passes requests on.
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { O_CLOEXEC, O_RDONLY } from "../../ffi/uapi/mman.ts";
import type { MmioRegion } from "../bus.ts";
import type { KvmVm } from "../kvm.ts";
import {
  PMEM_ADDRESS,
  VIRTIO_IRQ_FIRST,
  VIRTIO_MMIO_ADDRESS,
  VIRTIO_MMIO_SIZE,
} from "../layout.ts";
import type { GuestMemory } from "../memory.ts";
import { VIRTIO_MMIO_KIND } from "../virtio/front.ts";
import { VIRTIO_MMIO } from "../virtio/mmio.ts";
import type { SlotSnapshot } from "../virtio/slot.ts";
import { TransportState } from "../virtio/state.ts";
import type { BlkOptions } from "../devices/blk/device.ts";
import type { ConsoleSize } from "../devices/console/device.ts";
import { eventFd, signalEvent } from "../../ffi/eventfd.ts";
import type {
  DeviceEvent,
  DeviceRequest,
  DeviceSpec,
  DeviceStatistics,
  MadeDevice,
  StartMessage,
  ThreadReady,
  ThreadRequest,
} from "./messages.ts";
import { SharedWorkers, type Tenancy } from "../shared_workers.ts";
import { PMEM_ALIGNMENT } from "../devices/pmem/device.ts";
import type { VsockOptions } from "../devices/vsock/device.ts";

/** Interrupt lines of the IOAPIC that no legacy device has; 8 is the real-time clock's. */
const INTERRUPTS: readonly number[] = Array.from({ length: 24 }, (_, line) => line)
  .filter((line) => line >= VIRTIO_IRQ_FIRST && line !== 8 && line !== 13 && line < 24);

/** Which devices a VM has. */
export interface DevicesConfig {
  /** Socket between host and guest. */
  readonly vsock?: VsockOptions;
  /** Read-only images, which the guest sees as /dev/pmem0 and so on. */
  readonly pmem?: readonly { readonly path: string }[];
  /** Disks, which the guest sees as /dev/vda and so on. */
  readonly blk?: readonly BlkOptions[];
  /** Entropy from the host. */
  readonly rng?: boolean;
  /** A console, which the guest sees as /dev/hvc0. */
  readonly console?: ConsoleSize;
  /** Memory that can be taken back. */
  readonly balloon?: boolean;
}

/** Who is told what. */
export interface DevicesListener {
  /** The guest wrote to the console. */
  readonly onOutput?: (bytes: Uint8Array<ArrayBuffer>) => void;
  /** Something that a person may want to know. */
  readonly onWarning?: (message: string) => void;
}

/** VMs whose devices share a thread: one that is busy slows down few others. */
const VMS_OF_A_THREAD = 16;

/** The thread blocks outside of JavaScript: what it is sent waits at a port, and an event says so. */
const threads = new SharedWorkers(
  new URL("./worker.ts", import.meta.url),
  VMS_OF_A_THREAD,
  (worker) => {
    const { port1, port2 } = new MessageChannel();
    worker.postMessage(port2, [port2]);
    return (loaded) => {
      const { wake } = loaded as ThreadReady;
      const post = (message: ThreadRequest, transfer: Transferable[] = []) => {
        port1.postMessage(message, transfer);
        signalEvent(wake);
      };
      return {
        post: (message, transfer) => post(message as ThreadRequest, transfer),
        end() {
          post({ kind: "end" });
          port1.close();
        },
      };
    };
  },
);

type Answered = Extract<DeviceEvent, { readonly id: number }>;

/** The devices of one VM. */
export class Devices implements AsyncDisposable {
  /** Where each device is, for the vCPUs. */
  readonly regions: readonly MmioRegion[];
  /** What the kernel has to be told of them. */
  readonly kernelArguments: readonly string[];
  readonly #specs: readonly DeviceSpec[];
  readonly #made: readonly MadeDevice[];
  readonly #wake: OwnedFd;
  readonly #thread: Tenancy | undefined;
  readonly #port: MessagePort;
  readonly #ended = Promise.withResolvers<void>();
  readonly #listener: DevicesListener;
  readonly #waiting = new Map<
    number,
    { resolve: (event: Answered) => void; reject: (error: Error) => void }
  >();
  #id = 0;
  #disposed = false;
  #frozen = false;

  private constructor(
    specs: readonly DeviceSpec[],
    made: readonly MadeDevice[],
    wake: OwnedFd,
    port: MessagePort,
    listener: DevicesListener,
    thread?: Tenancy,
  ) {
    this.#thread = thread;
    this.#listener = listener;
    this.#specs = specs;
    this.#made = made;
    this.#wake = wake;
    this.#port = port;
    this.regions = made.map(({ registers, kicks }, index) => ({
      base: VIRTIO_MMIO_ADDRESS + index * VIRTIO_MMIO_SIZE,
      size: VIRTIO_MMIO_SIZE,
      irq: INTERRUPTS[index]!,
      kind: VIRTIO_MMIO_KIND,
      shared: registers,
      fds: {
        wake: wake.fd,
        ...Object.fromEntries(kicks.map((fd, queue) => [`queue${queue}`, fd])),
      },
    }));
    // Documentation/admin-guide/kernel-parameters.txt: virtio_mmio.device=<size>@<base>:<irq>
    this.kernelArguments = this.regions.map(({ base, size, irq }) =>
      `virtio_mmio.device=${size / 1024}K@0x${base.toString(16)}:${irq}`
    );
    port.onmessage = ({ data }: MessageEvent<DeviceEvent>) => {
      switch (data.kind) {
        case "output":
          return listener.onOutput?.(data.bytes);
        case "warning":
          return listener.onWarning?.(data.message);
        case "failed":
          return listener.onWarning?.(`The device worker ended: ${data.message}`);
        case "statistics":
        case "saved":
        case "restored":
        case "refused":
          this.#waiting.get(data.id)?.resolve(data);
          this.#waiting.delete(data.id);
          return;
        case "ready":
          return;
        case "stopped":
          this.#stopped();
      }
    };
  }

  /**
   * Makes the devices and starts their worker.
   *
   * @param config which devices
   * @param memory of the VM; windows for pmem are added to it, and it must outlive the devices
   * @param listener who is told of output and warnings
   * @throws {CloudletError} when a device cannot be made, with the reason
   */
  static async start(
    config: DevicesConfig,
    memory: GuestMemory,
    listener: DevicesListener = {},
  ): Promise<Devices> {
    const specs = specify(config, memory);
    if (specs.length > INTERRUPTS.length) {
      throw new CloudletError(
        `Cannot give a VM ${specs.length} devices: there are interrupts for ${INTERRUPTS.length}`,
        { code: "invalid-input", remedy: "use fewer disks" },
      );
    }
    using stack = new DisposableStack();
    const wake = stack.use(eventFd());
    const { port1, port2 } = new MessageChannel();
    if (specs.length === 0) { // nothing to do: no thread, which takes longest to start of all
      answerWithoutDevices(port2);
      stack.move();
      return new Devices(specs, [], wake, port1, listener);
    }
    const ready = Promise.withResolvers<readonly MadeDevice[]>();
    const made: { devices?: Devices } = {};
    const fail = (why: string) => {
      if (made.devices !== undefined) made.devices.#broken(why);
      ready.reject(new CloudletError(`Cannot make the devices: ${why}`, { code: "host" }));
    };
    const thread = stack.use(threads.enter(fail));
    port1.onmessage = ({ data }: MessageEvent<DeviceEvent>) => {
      if (data.kind === "ready") ready.resolve(data.devices);
      else if (data.kind === "failed") fail(data.message);
    };
    const start: StartMessage = {
      memory: memory.description,
      devices: specs,
      port: port2,
      wake: wake.fd,
    };
    thread.post({ kind: "start", start } satisfies ThreadRequest, [port2]);
    try {
      made.devices = new Devices(specs, await ready.promise, wake, port1, listener, thread);
      stack.move();
      return made.devices;
    } catch (error) {
      port1.close();
      throw error;
    }
  }

  /** Has KVM deliver notifications and interrupts. */
  connect(vm: KvmVm): void {
    this.#made.forEach(({ kicks, interrupt }, index) => {
      const { base, irq } = this.regions[index]!;
      // Edge-triggered, as the MP table and the ACPI tables say: the device sets its status bit
      // before the edge, so no level has to be kept.
      vm.irqfd(interrupt, irq);
      kicks.forEach((fd, queue) => vm.ioeventfd(fd, base + VIRTIO_MMIO.QUEUE_NOTIFY, 4, queue));
    });
  }

  /** The thread ended by an error, which takes the devices of several VMs with it. */
  #broken(why: string): void {
    this.#listener.onWarning?.(`The devices ended: ${why}`);
    this.#stopped();
  }

  #stopped(): void {
    for (const { reject } of this.#waiting.values()) {
      reject(new CloudletError("Cannot ask the devices: they ended", { code: "internal" }));
    }
    this.#waiting.clear();
    this.#ended.resolve();
  }

  #index(kind: DeviceSpec["kind"]): number {
    const index = this.#specs.findIndex((spec) => spec.kind === kind);
    if (index < 0) {
      throw new CloudletError(`Cannot reach the ${kind}: the VM has none`, {
        code: "invalid-input",
      });
    }
    return index;
  }

  #post(request: DeviceRequest): void {
    if (this.#disposed) {
      throw new CloudletError("Cannot reach the devices: the VM ended", { code: "conflict" });
    }
    this.#port.postMessage(request);
    signalEvent(this.#wake.fd);
  }

  #ask(request: (id: number) => DeviceRequest): Promise<Answered> {
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#post(request(id));
    });
  }

  /** Types at the console. */
  input(bytes: Uint8Array): void {
    this.#post({ kind: "input", device: this.#index("console"), bytes });
  }

  /** Tells the guest the console's new size. */
  resize(size: ConsoleSize): void {
    this.#post({ kind: "resize", device: this.#index("console"), size });
  }

  /**
   * Asks the guest to give memory up.
   *
   * @param bytes how much the balloon shall hold in the end
   */
  setBalloon(bytes: number): void {
    const pages = Math.floor(bytes / 4096);
    this.#post({ kind: "balloon", device: this.#index("balloon"), pages });
  }

  /** Counters of every device. */
  async statistics(): Promise<readonly DeviceStatistics[]> {
    const answer = await this.#ask((id) => ({ kind: "statistics", id }));
    return answer.kind === "statistics" ? answer.devices : [];
  }

  /**
   * What a snapshot has to keep; the vCPUs must be paused. Structured-clonable. From then on the
   * devices touch neither guest memory nor host sockets, until {@linkcode Devices.thaw}.
   */
  async save(): Promise<readonly SlotSnapshot[]> {
    this.#frozen = true;
    const answer = await this.#ask((id) => ({ kind: "save", id }));
    return answer.kind === "saved" ? answer.slots : [];
  }

  /** Has the devices go on after {@linkcode Devices.save}, with what came meanwhile. */
  thaw(): void {
    if (!this.#frozen || this.#disposed) return;
    this.#frozen = false;
    this.#post({ kind: "thaw" });
  }

  /**
   * Goes on from a snapshot: memory must be in place, and the vCPUs must not run yet. When this
   * returns they may: the registers that they read are as they were.
   *
   * @returns has the devices follow, who look at each queue then, so that no notification is lost;
   *   rejects with `conflict` when they cannot
   * @throws {CloudletError} `conflict` when the snapshot is of other devices
   */
  restore(slots: readonly SlotSnapshot[]): () => Promise<void> {
    if (slots.length !== this.#specs.length) throw refuse("the snapshot has other devices");
    slots.forEach(({ transport }, index) => {
      try {
        new TransportState(this.#made[index]!.registers).restore(transport);
      } catch (cause) { // a RangeError
        throw refuse(messageOf(cause), cause);
      }
    });
    return async () => {
      const rest = slots.map(({ transport: _, ...rest }) => rest);
      const answer = await this.#ask((id) => ({ kind: "restore", id, slots: rest }));
      if (answer.kind === "refused") throw refuse(answer.message);
    };
  }

  /** Ends the worker and everything that the devices hold. The vCPUs must have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return await this.#ended.promise;
    this.#post({ kind: "stop" });
    this.#disposed = true;
    await this.#ended.promise;
    this.#port.close();
    this.#wake[Symbol.dispose]();
    this.#thread?.[Symbol.dispose]();
  }
}

function refuse(why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot restore the devices: ${why}`, { code: "conflict", cause });
}

/** The other end of a VM without devices. */
function answerWithoutDevices(port: MessagePort): void {
  const tell = (event: DeviceEvent) => port.postMessage(event);
  port.onmessage = ({ data }: MessageEvent<DeviceRequest>) => {
    switch (data.kind) {
      case "statistics":
        return tell({ kind: "statistics", id: data.id, devices: [] });
      case "save":
        return tell({ kind: "saved", id: data.id, slots: [] });
      case "restore":
        if (data.slots.length === 0) return tell({ kind: "restored", id: data.id });
        return tell({ kind: "refused", id: data.id, message: "the VM has no devices" });
      case "stop":
        tell({ kind: "stopped" });
        return port.close();
      case "input":
      case "resize":
      case "balloon":
      case "thaw":
        return; // refused before it is sent: there is no such device
      default:
        data satisfies never;
    }
  };
}

function specify(config: DevicesConfig, memory: GuestMemory): DeviceSpec[] {
  const specs: DeviceSpec[] = [];
  let address = PMEM_ADDRESS;
  for (const { path } of config.pmem ?? []) {
    using file = OwnedFd.open(path, O_RDONLY | O_CLOEXEC);
    const { size } = Deno.statSync(path);
    const slot = memory.addReadOnlyFile(address, file.fd, size, PMEM_ALIGNMENT.length);
    specs.push({ kind: "pmem", start: slot.start, size: slot.size });
    address += Math.ceil(slot.size / PMEM_ALIGNMENT.start) * PMEM_ALIGNMENT.start;
  }
  for (const options of config.blk ?? []) specs.push({ kind: "blk", options });
  if (config.vsock !== undefined) specs.push({ kind: "vsock", options: config.vsock });
  if (config.console !== undefined) specs.push({ kind: "console", size: config.console });
  if (config.rng === true) specs.push({ kind: "rng" });
  if (config.balloon === true) specs.push({ kind: "balloon" });
  return specs;
}
