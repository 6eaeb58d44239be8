/**
 * The devices of one VM as the main thread sees them: starts the device worker, tells the kernel
 * and KVM where the devices are, and passes requests on.
 *
 * @module
 */
import { CloudletError, messageOf } from "../../base/errors.ts";
import { eventFd, signalEvent } from "../../ffi/eventfd.ts";
import type { OwnedFd } from "../../ffi/fd.ts";
import type { MmioRegion } from "../vcpu/bus.ts";
import type { DeviceKind, DeviceRequests } from "../devices/kind.ts";
import { DEVICE_NAMES, deviceKind, type DevicesConfig } from "../devices/registry.ts";
import type { KvmVm } from "../kvm/kvm.ts";
import { VIRTIO_IRQ_FIRST, VIRTIO_MMIO_ADDRESS, VIRTIO_MMIO_SIZE } from "../layout.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { SharedWorkers, type Tenancy } from "../shared_workers.ts";
import { VIRTIO_MMIO } from "../virtio/mmio.ts";
import type { SlotSnapshot } from "../virtio/slot.ts";
import { TransportState } from "../virtio/state.ts";
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

/** Interrupt lines of the IOAPIC that no legacy device has; 8 is the real-time clock's. */
const INTERRUPTS: readonly number[] = Array.from({ length: 24 }, (_, line) => line)
  .filter((line) => line >= VIRTIO_IRQ_FIRST && line !== 8 && line !== 13 && line < 24);

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

interface Waiting {
  readonly resolve: (event: Answered) => void;
  readonly reject: (error: Error) => void;
}

/** What {@linkcode Devices} are made of. */
interface Parts {
  readonly config: DevicesConfig;
  readonly specs: readonly DeviceSpec[];
  readonly made: readonly MadeDevice[];
  readonly wake: OwnedFd;
  readonly port: MessagePort;
  readonly thread?: Tenancy;
}

/** The devices of one VM. */
export class Devices implements AsyncDisposable, DeviceRequests {
  /** Where each device is, for the vCPUs. */
  readonly regions: readonly MmioRegion[];
  /** What the kernel has to be told of them. */
  readonly kernelArguments: readonly string[];
  readonly #parts: Parts;
  readonly #onWarning: (message: string) => void;
  readonly #ended = Promise.withResolvers<void>();
  readonly #broken = Promise.withResolvers<string>();
  readonly #waiting = new Map<number, Waiting>();
  #id = 0;
  #frozen = false;
  #gone = false;
  #disposed = false;

  private constructor(parts: Parts, onWarning: (message: string) => void) {
    this.#parts = parts;
    this.#onWarning = onWarning;
    this.regions = parts.made.map(({ registers, kicks }, index) => ({
      base: VIRTIO_MMIO_ADDRESS + index * VIRTIO_MMIO_SIZE,
      size: VIRTIO_MMIO_SIZE,
      irq: INTERRUPTS[index]!,
      shared: registers,
      fds: {
        wake: parts.wake.fd,
        ...Object.fromEntries(kicks.map((fd, queue) => [`queue${queue}`, fd])),
      },
    }));
    // Documentation/admin-guide/kernel-parameters.txt: virtio_mmio.device=<size>@<base>:<irq>
    this.kernelArguments = this.regions.map(({ base, size, irq }) =>
      `virtio_mmio.device=${size / 1024}K@0x${base.toString(16)}:${irq}`
    );
    parts.port.onmessage = ({ data }: MessageEvent<DeviceEvent>) => this.#heard(data);
  }

  /**
   * Makes the devices and starts their worker.
   *
   * @param config which devices
   * @param memory of the VM; a device may add a window to it, and it must outlive the devices
   * @param onWarning called with what a person may want to know
   * @throws {CloudletError} when a device cannot be made, with the reason
   */
  static async start(
    config: DevicesConfig,
    memory: GuestMemory,
    onWarning: (message: string) => void = () => {},
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
    const parts = { config, specs, wake, port: port1 };
    if (specs.length === 0) { // nothing to do: no thread, which takes longest to start of all
      answerWithoutDevices(port2);
      stack.move();
      return new Devices({ ...parts, made: [] }, onWarning);
    }
    const ready = Promise.withResolvers<readonly MadeDevice[]>();
    const made: { devices?: Devices } = {};
    const fail = (why: string) =>
      ready.reject(new CloudletError(`Cannot make the devices: ${why}`, { code: "host" }));
    const thread = stack.use(threads.enter((why) => {
      fail(why);
      if (made.devices !== undefined) made.devices.#break(why);
    }));
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
      made.devices = new Devices({ ...parts, made: await ready.promise, thread }, onWarning);
      stack.move();
      return made.devices;
    } catch (error) {
      port1.close();
      throw error;
    }
  }

  /** Has KVM deliver notifications and interrupts. */
  connect(vm: KvmVm): void {
    this.#parts.made.forEach(({ kicks, interrupt }, index) => {
      const { base, irq } = this.regions[index]!;
      // Edge-triggered, as the MP table and the ACPI tables say: the device sets its status bit
      // before the edge, so no level has to be kept.
      vm.irqfd(interrupt, irq);
      kicks.forEach((fd, queue) => vm.ioeventfd(fd, base + VIRTIO_MMIO.QUEUE_NOTIFY, 4, queue));
    });
  }

  /**
   * Settles with the reason when the thread ends by an error, which takes the devices of several VMs
   * with it. Never rejects.
   */
  get broken(): Promise<string> {
    return this.#broken.promise;
  }

  #heard(event: DeviceEvent): void {
    switch (event.kind) {
      case "event":
        return this.#deviceSaid(event.device, event.event);
      case "warning":
        return this.#onWarning(event.message);
      case "statistics":
      case "saved":
      case "restored":
      case "refused":
        this.#waiting.get(event.id)?.resolve(event);
        this.#waiting.delete(event.id);
        return;
      case "ready":
      case "failed":
        return; // only while they start
      case "stopped":
        return this.#stopped();
      default:
        event satisfies never;
    }
  }

  #deviceSaid(device: number, event: unknown): void {
    const { kind } = this.#parts.specs[device]!;
    deviceKind(kind).heard?.(event, this.#parts.config[kind], (request) => {
      if (!this.#disposed) this.#post({ kind: "request", device, request });
    });
  }

  #break(why: string): void {
    this.#broken.resolve(why);
    this.#stopped();
  }

  #stopped(): void {
    this.#gone = true;
    for (const { reject } of this.#waiting.values()) reject(gone());
    this.#waiting.clear();
    this.#ended.resolve();
  }

  #post(request: DeviceRequest): void {
    if (this.#disposed) {
      throw new CloudletError("Cannot reach the devices: the VM ended", { code: "conflict" });
    }
    this.#parts.port.postMessage(request);
    signalEvent(this.#parts.wake.fd);
  }

  async #ask(request: (id: number) => DeviceRequest): Promise<Answered> {
    if (this.#gone) throw gone();
    const id = ++this.#id;
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#post(request(id));
    });
  }

  /** See {@linkcode DeviceRequests.request}. */
  request<Request>(
    kind: DeviceKind<never, unknown, Request, never>,
    request: NoInfer<Request>,
  ): void {
    const device = this.#parts.specs.findIndex((spec) => spec.kind === kind.name);
    if (device < 0) {
      throw new CloudletError(`Cannot reach the ${kind.name}: the VM has none`, {
        code: "invalid-input",
      });
    }
    this.#post({ kind: "request", device, request });
  }

  /** Counters of every device. */
  async statistics(): Promise<readonly DeviceStatistics[]> {
    const answer = await this.#ask((id) => ({ kind: "statistics", id }));
    return answer.kind === "statistics" ? answer.devices : [];
  }

  /**
   * What a snapshot has to keep; the vCPUs must be paused. Structured-clonable. From then on the
   * devices touch neither guest memory nor host sockets, until {@linkcode Devices.thaw}.
   *
   * @throws {CloudletError} `internal` when a device cannot be saved, or they ended
   */
  async save(): Promise<readonly SlotSnapshot[]> {
    this.#frozen = true;
    const answer = await this.#ask((id) => ({ kind: "save", id }));
    if (answer.kind === "saved") return answer.slots;
    const why = answer.kind === "refused" ? answer.message : `the answer was ${answer.kind}`;
    throw new CloudletError(`Cannot save the devices: ${why}`, { code: "internal" });
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
    if (slots.length !== this.#parts.specs.length) throw refuse("the snapshot has other devices");
    slots.forEach(({ transport }, index) => {
      try {
        new TransportState(this.#parts.made[index]!.registers).restore(transport);
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
    const { port, wake, thread } = this.#parts;
    port.close();
    wake[Symbol.dispose]();
    thread?.[Symbol.dispose]();
  }
}

function refuse(why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot restore the devices: ${why}`, { code: "conflict", cause });
}

function gone(): CloudletError {
  return new CloudletError("Cannot ask the devices: they ended", { code: "internal" });
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
      case "request":
      case "thaw":
        return; // refused before it is sent: there is no such device
      default:
        data satisfies never;
    }
  };
}

function specify(config: DevicesConfig, memory: GuestMemory): DeviceSpec[] {
  return DEVICE_NAMES.flatMap((kind) => {
    if (config[kind] === undefined) return [];
    return deviceKind(kind).plan(config[kind], memory).map((spec) => ({ kind, spec }));
  });
}
