/**
 * The devices of one VM in the device worker's thread.
 *
 * @module
 */
import { receiveMessageOnPort } from "node:worker_threads";
import { messageOf } from "../../base/errors.ts";
import { libc } from "../../ffi/libc.ts";
import { EPOLLIN, MADV_DONTNEED } from "../../ffi/uapi/mman.ts";
import type { Device, DeviceHost } from "../virtio/device.ts";
import { RamView } from "../virtio/memory.ts";
import { DeviceSlot } from "../virtio/slot.ts";
import { BalloonDevice } from "../devices/balloon/device.ts";
import { BlkDevice } from "../devices/blk/device.ts";
import { ConsoleDevice } from "../devices/console/device.ts";
import { clearEvent, eventFd, signalEvent } from "../../ffi/eventfd.ts";
import type {
  DeviceChange,
  DeviceEvent,
  DeviceRequest,
  DeviceSpec,
  DeviceStatistics,
  MadeDevice,
  SavedSlot,
  StartMessage,
} from "./messages.ts";
import { PmemDevice } from "../devices/pmem/device.ts";
import { LoopShare } from "./loop_share.ts";
import type { Poller } from "./poller.ts";
import { RngDevice } from "../devices/rng/device.ts";
import { VsockDevice } from "../devices/vsock/device.ts";

/**
 * The devices of one VM.
 *
 * A snapshot needs guest memory, queues and host sockets to stay as they are. So the set freezes
 * when it is saved, until the VM goes on: nothing of it is called, and requests wait in their order.
 */
export class DeviceSet implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #start: StartMessage;
  readonly #loop: LoopShare;
  readonly #slots: DeviceSlot[] = [];
  readonly #made: MadeDevice[] = [];
  /** Requests that came while the set was frozen. */
  #held: DeviceChange[] = [];

  /**
   * Makes the devices and says so at the port.
   *
   * @param start what to make, of which memory
   * @param poller the thread's loop
   * @throws when a device cannot be made
   */
  constructor(start: StartMessage, poller: Poller) {
    this.#start = start;
    this.#loop = new LoopShare(
      poller,
      (error) => this.#warn(`A device failed: ${messageOf(error)}`),
    );
    using stack = new DisposableStack();
    stack.defer(() => this.#end());
    const memory = this.#stack.use(new RamView(start.memory));
    start.devices.forEach((spec, index) => this.#make(memory, spec, index));
    // Not a part of what freezes: this is how the main thread says that it goes on.
    poller.watch(start.wake, EPOLLIN, () => this.#wake());
    this.#stack.defer(() => poller.unwatch(start.wake));
    this.#post({ kind: "ready", devices: this.#made });
    stack.move();
  }

  #make(memory: RamView, spec: DeviceSpec, index: number): void {
    const interrupt = this.#stack.use(eventFd()).fd;
    const slot = this.#stack.use(
      new DeviceSlot({
        memory,
        scheduler: this.#loop,
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
      this.#loop.watch(fd, EPOLLIN, () => {
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

  #failed(error: unknown): void {
    this.#warn(`A device failed: ${messageOf(error)}`);
  }

  /** A request that fails must not hold up those behind it. */
  #attempt(task: () => void): void {
    try {
      task();
    } catch (error) {
      this.#failed(error);
    }
  }

  #wake(): void {
    clearEvent(this.#start.wake);
    if (!this.#loop.frozen) { for (const slot of this.#slots) slot.handleCommands(); }
    while (!this.#stack.disposed) {
      const received = receiveMessageOnPort(this.#start.port as never);
      if (received === undefined) return;
      this.#attempt(() => this.#handle(received.message as DeviceRequest));
    }
  }

  #find<T extends Device>(index: number, type: new (...args: never[]) => T): T | undefined {
    const device = this.#slots[index]?.device;
    return device instanceof type ? device : undefined;
  }

  #handle(request: DeviceRequest): void {
    switch (request.kind) {
      case "save":
        return this.#save(request.id);
      case "thaw":
        return this.#thaw();
      case "statistics":
        return this.#post({ kind: "statistics", id: request.id, devices: this.#statistics() });
      case "stop":
        return this[Symbol.dispose]();
      default:
        if (this.#loop.frozen) this.#held.push(request);
        else this.#change(request);
    }
  }

  /** Does what changes the devices. */
  #change(request: DeviceChange): void {
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
      case "restore":
        try {
          this.#restore(request.slots);
          this.#post({ kind: "restored", id: request.id });
        } catch (error) {
          this.#post({ kind: "refused", id: request.id, message: messageOf(error) });
        }
        break;
    }
  }

  #save(id: number): void {
    if (!this.#loop.frozen) {
      for (const slot of this.#slots) slot.handleCommands();
      this.#loop.freeze();
    }
    this.#post({ kind: "saved", id, slots: this.#slots.map((slot) => slot.save()) });
  }

  #thaw(): void {
    if (!this.#loop.frozen) return;
    this.#loop.thaw();
    for (const slot of this.#slots) slot.thaw();
    for (const request of this.#held.splice(0)) this.#attempt(() => this.#change(request));
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
    this.#held = [];
    this.#loop[Symbol.dispose](); // first: a descriptor that is closed can no longer be unwatched
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
