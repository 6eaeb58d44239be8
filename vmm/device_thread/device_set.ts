/**
 * The devices of one VM in the device worker's thread.
 *
 * @module
 */
import { receiveMessageOnPort } from "node:worker_threads";
import { messageOf } from "../../base/errors.ts";
import { libc } from "../../ffi/libc.ts";
import { EPOLLIN, MADV_DONTNEED } from "../../ffi/uapi/mman.ts";
import { deviceKind } from "../devices/registry.ts";
import { RamView } from "../virtio/memory.ts";
import { DeviceSlot } from "../virtio/slot.ts";
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
import { LoopShare } from "./loop_share.ts";
import type { Poller } from "./poller.ts";

/**
 * The devices of one VM.
 *
 * A snapshot needs guest memory, queues and host sockets to stay as they are. So the set freezes
 * when it is saved, until the VM goes on: nothing of it is called, and requests wait in their order.
 */
export class DeviceSet implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #start: StartMessage;
  readonly #onEnd: () => void;
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
   * @param onEnd called when it was told to stop, and has let go of everything
   * @throws when a device cannot be made
   */
  constructor(start: StartMessage, poller: Poller, onEnd: () => void = () => {}) {
    this.#start = start;
    this.#onEnd = onEnd;
    this.#loop = new LoopShare(poller, (error) => this.#failed(error));
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
        post: (event) => this.#post({ kind: "event", device: index, event }),
        warn: (message) => this.#warn(message),
      }, (host) => deviceKind(spec.kind).make(host, spec.spec)),
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
    if (!this.#loop.frozen) this.#handleCommands();
    while (!this.#stack.disposed) {
      const received = receiveMessageOnPort(this.#start.port as never);
      if (received === undefined) return;
      this.#attempt(() => this.#handle(received.message as DeviceRequest));
    }
  }

  #handleCommands(): void {
    for (const slot of this.#slots) slot.handleCommands();
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
      case "request":
        return this.#slots[request.device]?.request(request.request);
      case "restore":
        return this.#answer(request.id, () => {
          this.#restore(request.slots);
          this.#post({ kind: "restored", id: request.id });
        });
      default:
        request satisfies never;
    }
  }

  #answer(id: number, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#post({ kind: "refused", id, message: messageOf(error) });
    }
  }

  #save(id: number): void {
    if (!this.#loop.frozen) {
      this.#handleCommands();
      this.#loop.freeze();
    }
    this.#answer(id, () => {
      this.#post({ kind: "saved", id, slots: this.#slots.map((slot) => slot.save()) });
    });
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
    return this.#slots.map(({ device }) => ({
      name: device.name,
      counters: device.counters?.() ?? {},
    }));
  }

  /** Lets go of everything; the loop goes on for other VMs, so that nothing may stay in it. */
  #end(): void {
    this.#held = [];
    this.#loop[Symbol.dispose](); // first: a descriptor that is closed can no longer be unwatched
    this.#stack.dispose();
  }

  [Symbol.dispose](): void {
    if (this.#stack.disposed) return;
    this.#end();
    stopped(this.#start.port);
    this.#onEnd();
  }
}

/** The last thing that is said at a port. */
export function stopped(port: MessagePort): void {
  port.postMessage({ kind: "stopped" } satisfies DeviceEvent);
  port.close();
}
