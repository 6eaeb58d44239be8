/**
 * The devices of one VM in the device worker's thread.
 *
 * @module
 */
import { receiveMessageOnPort } from "node:worker_threads";
import { messageOf } from "../../base/errors.ts";
import { libc } from "../../ffi/libc.ts";
import { EPOLLIN, MADV_DONTNEED } from "../../ffi/uapi/mman.ts";
import type { Device, DeviceHost, FdHandler } from "../virtio/device.ts";
import { RamView } from "../virtio/memory.ts";
import { DeviceSlot, type Scheduler } from "../virtio/slot.ts";
import { BalloonDevice } from "../devices/balloon/device.ts";
import { BlkDevice } from "../devices/blk/device.ts";
import { ConsoleDevice } from "../devices/console/device.ts";
import { clearEvent, eventFd, signalEvent } from "../../ffi/eventfd.ts";
import type {
  DeviceEvent,
  DeviceRequest,
  DeviceSpec,
  DeviceStatistics,
  MadeDevice,
  SavedSlot,
  StartMessage,
} from "./messages.ts";
import { PmemDevice } from "../devices/pmem/device.ts";
import type { Poller } from "./poller.ts";
import { RngDevice } from "../devices/rng/device.ts";
import { VsockDevice } from "../devices/vsock/device.ts";

/** How often devices may ask for another turn before a snapshot is made all the same. */
const SETTLE_ROUNDS = 1000;

/** The devices of one VM. */
export class DeviceSet implements Disposable, Scheduler {
  readonly #stack = new DisposableStack();
  readonly #start: StartMessage;
  readonly #poller: Poller;
  readonly #slots: DeviceSlot[] = [];
  readonly #made: MadeDevice[] = [];
  readonly #watched = new Set<number>();

  constructor(start: StartMessage, poller: Poller) {
    this.#start = start;
    this.#poller = poller;
    using stack = new DisposableStack();
    stack.defer(() => this.#end());
    const memory = this.#stack.use(new RamView(start.memory));
    start.devices.forEach((spec, index) => this.#make(memory, spec, index));
    this.watch(start.wake, EPOLLIN, () => this.#wake());
    this.#post({ kind: "ready", devices: this.#made });
    stack.move();
  }

  // What a device asks the loop for is done as long as there is the device, and a device that fails
  // fails its own VM only.

  watch(fd: number, events: number, handler: FdHandler): void {
    this.#watched.add(fd);
    this.#poller.watch(fd, events, (events) => this.#attempt(() => handler(events)));
  }

  unwatch(fd: number): void {
    this.#watched.delete(fd);
    this.#poller.unwatch(fd);
  }

  defer(task: () => void): void {
    this.#poller.defer(() => this.#attempt(task));
  }

  after(milliseconds: number, task: () => void): void {
    this.#poller.after(milliseconds, () => this.#attempt(task));
  }

  #attempt(task: () => void): void {
    if (this.#stack.disposed) return;
    try {
      task();
    } catch (error) {
      this.#warn(`A device failed: ${messageOf(error)}`);
    }
  }

  #make(memory: RamView, spec: DeviceSpec, index: number): void {
    const interrupt = this.#stack.use(eventFd()).fd;
    const slot = this.#stack.use(
      new DeviceSlot({
        memory,
        scheduler: this,
        interrupt: () => signalEvent(interrupt),
        discard: (offset, length) => {
          // SAFETY: the device checked that the range is guest RAM.
          const address = Deno.UnsafePointer.create(memory.base + BigInt(offset));
          libc().madvise(address, BigInt(length), MADV_DONTNEED);
        },
        warn: (message) => this.#warn(message),
      }, (host) => this.#device(host, spec, index)),
    );
    const kicks = slot.device.queueSizes.map((_, queue) => {
      const { fd } = this.#stack.use(eventFd());
      this.watch(fd, EPOLLIN, () => {
        clearEvent(fd);
        slot.handleQueue(queue);
      });
      return fd;
    });
    this.#slots.push(slot);
    this.#made.push({ registers: slot.state.buffer, kicks, interrupt });
  }

  #device(host: DeviceHost, spec: DeviceSpec, index: number): Device {
    switch (spec.kind) {
      case "vsock":
        return new VsockDevice(host, spec.options);
      case "pmem":
        return new PmemDevice(host, spec.start, spec.size);
      case "blk":
        return new BlkDevice(host, spec.options);
      case "rng":
        return new RngDevice(host);
      case "console":
        return new ConsoleDevice(
          host,
          (bytes) => this.#post({ kind: "output", device: index, bytes }),
          spec.size,
        );
      case "balloon":
        return new BalloonDevice(host);
    }
  }

  #post(event: DeviceEvent): void {
    this.#start.port.postMessage(event);
  }

  #warn(message: string): void {
    this.#post({ kind: "warning", message });
  }

  #wake(): void {
    clearEvent(this.#start.wake);
    for (const slot of this.#slots) slot.handleCommands();
    while (!this.#stack.disposed) {
      const received = receiveMessageOnPort(this.#start.port as never);
      if (received === undefined) return;
      this.#handle(received.message as DeviceRequest);
    }
  }

  #find<T extends Device>(index: number, type: new (...args: never[]) => T): T | undefined {
    const device = this.#slots[index]?.device;
    return device instanceof type ? device : undefined;
  }

  #handle(request: DeviceRequest): void {
    switch (request.kind) {
      case "input":
        this.#find(request.device, ConsoleDevice)?.input(request.bytes);
        break;
      case "resize":
        this.#find(request.device, ConsoleDevice)?.resize(request.size);
        break;
      case "balloon":
        this.#find(request.device, BalloonDevice)?.setTarget(request.pages);
        break;
      case "statistics":
        this.#post({ kind: "statistics", id: request.id, devices: this.#statistics() });
        break;
      case "save":
        this.#poller.settle(SETTLE_ROUNDS);
        this.#post({
          kind: "saved",
          id: request.id,
          slots: this.#slots.map((slot) => slot.save()),
        });
        break;
      case "restore":
        try {
          this.#restore(request.slots);
          this.#post({ kind: "restored", id: request.id });
        } catch (error) {
          this.#post({ kind: "refused", id: request.id, message: messageOf(error) });
        }
        break;
      case "stop":
        this[Symbol.dispose]();
        break;
    }
  }

  #restore(saved: readonly SavedSlot[]): void {
    if (saved.length !== this.#slots.length) throw new RangeError("the snapshot has other devices");
    saved.forEach((snapshot, index) => this.#slots[index]!.restore(snapshot));
  }

  #statistics(): DeviceStatistics[] {
    return this.#slots.map(({ device }) => {
      const counters: Record<string, number> = {};
      if (device instanceof BalloonDevice) {
        counters.pages = device.actual;
        counters.discardedBytes = device.discarded;
      } else if (device instanceof VsockDevice) {
        counters.streams = device.streams;
        counters.badPackets = device.badPackets;
      }
      return { name: device.name, counters };
    });
  }

  /** Lets go of everything; the loop goes on for other VMs, so that nothing may stay in it. */
  #end(): void {
    for (const fd of this.#watched) this.#poller.unwatch(fd);
    this.#watched.clear();
    this.#stack.dispose();
  }

  [Symbol.dispose](): void {
    this.#end();
    stopped(this.#start.port);
  }
}

/** The last thing that is said at a port. */
export function stopped(port: MessagePort): void {
  port.postMessage({ kind: "stopped" } satisfies DeviceEvent);
  port.close();
}
