/**
 * The place that one device has in the device worker: joins the device to its transport, its queues
 * and its interrupt.
 *
 * @module
 */
import { messageOf } from "../../base/errors.ts";
import type { Device, DeviceHost, DeviceState, FdEvents, FdHandler } from "./device.ts";
import type { DeviceMemory } from "./memory.ts";
import { Feature, Interrupt, Status } from "./mmio.ts";
import { type QueueState, VirtQueue } from "./queue.ts";
import { Command, QueueWord, type TransportSnapshot, TransportState, Word } from "./state.ts";

/** How long a lazy interrupt may wait, in milliseconds. */
const LAZY_INTERRUPT = 10;
/** The most warnings of one device: a guest could fill the log. */
const MAX_WARNINGS = 16;

/** The loop that runs the devices. */
export interface Scheduler {
  /** Watches a descriptor. */
  watch(fd: number, events: FdEvents, handler: FdHandler): void;
  /** Stops watching it. */
  unwatch(fd: number): void;
  /** Runs `task` soon, after what is due now. */
  defer(task: () => void): void;
  /** Runs `task` after some milliseconds. */
  after(milliseconds: number, task: () => void): void;
  /** Waits for `work` outside of the loop, which stands still meanwhile, and runs the task that it gives. */
  outside(work: () => Promise<() => void>): void;
}

/** What a slot needs from its surroundings. */
export interface SlotOptions {
  /** The guest's RAM. */
  readonly memory: DeviceMemory;
  /** The worker's loop. */
  readonly scheduler: Scheduler;
  /** Makes the interrupt edge; the status bit is set already. */
  readonly interrupt: () => void;
  /** Gives pages back to the host. */
  readonly discard: (offset: number, length: number) => void;
  /** Where events for the main thread's half of the device go. */
  readonly post: (event: unknown) => void;
  /** Where warnings go. */
  readonly warn: (message: string) => void;
}

/** Everything that a snapshot keeps of one device. */
export interface SlotSnapshot {
  /** {@linkcode Device.name}: a snapshot is not for another device. */
  readonly name: string;
  /** The registers. */
  readonly transport: TransportSnapshot;
  /** The queues in use by index. */
  readonly queues: readonly (QueueState | null)[];
  /** What the device itself keeps. */
  readonly device: DeviceState;
}

/** One device at work. */
export class DeviceSlot implements DeviceHost, Disposable {
  /** The guest's RAM. */
  readonly memory: DeviceMemory;
  /** The device. */
  readonly device: Device<unknown>;
  /** Its registers, shared with the vCPUs. */
  readonly state: TransportState;
  readonly #options: SlotOptions;
  /** By index; those that the driver does not use are undefined. */
  #queues: (VirtQueue | undefined)[];
  #active = false;
  #lazy = false;
  #warned = false;
  #warnings = 0;
  #disposed = false;

  /**
   * @param options surroundings
   * @param make makes the device, which keeps the host that it is given
   */
  constructor(options: SlotOptions, make: (host: DeviceHost) => Device<unknown>) {
    this.#options = options;
    this.memory = options.memory;
    this.device = make(this);
    this.#queues = this.device.queueSizes.map(() => undefined);
    this.state = TransportState.create(this.device);
  }

  /** Does what vCPUs asked for; call it when the command event fires. */
  handleCommands(): void {
    const { words } = this.state;
    const command = Atomics.exchange(words, Word.command, 0);
    if ((command & Command.reset) !== 0) {
      this.#deactivate();
      Atomics.store(words, Word.active, 0);
      Atomics.notify(words, Word.active);
      // An activation that came with it came before it: its driver waits for this one.
    } else if ((command & Command.activate) !== 0) {
      this.#activate();
    }
    if ((command & Command.configWritten) !== 0 && this.#active) {
      this.device.handleConfig?.(this.state.config);
    }
  }

  /** A queue was notified. */
  handleQueue(queue: number): void {
    if (!this.#active || this.#queues[queue] === undefined) return;
    this.#attempt(() => this.device.handleQueue(queue));
  }

  /** The main thread asks the device for something. */
  request(request: unknown): void {
    this.#attempt(() => this.device.request?.(request));
  }

  /** Has the device do something, which may look at any of its queues. */
  #attempt(task: () => void): void {
    try {
      task();
    } catch (error) { // a defect of ours or of the host: the other devices go on
      if (!this.#active) return this.warn(`The ${this.device.name} failed: ${messageOf(error)}`);
      this.#needsReset(`it failed: ${messageOf(error)}`);
    }
    const broken = this.#queues.findIndex((queue) => queue?.broken === true);
    if (broken >= 0) this.#needsReset(`queue ${broken} is out of order`);
  }

  #activate(states?: readonly (QueueState | null)[]): void {
    const { state, memory } = this;
    if ((state.get(Word.status) & Status.DRIVER_OK) === 0) return; // reset meanwhile
    this.#deactivate();
    const features = state.negotiated;
    const eventIndex = (features >> Feature.EVENT_IDX & 1n) === 1n;
    try {
      this.device.queueSizes.forEach((maximum, queue) => {
        if (state.queueWord(queue, QueueWord.ready) === 0) return;
        const layout = state.queueLayout(queue);
        if (layout.size > maximum) throw new RangeError(`queue ${queue} is too large`);
        const saved = states?.[queue] ?? undefined;
        this.#queues[queue] = new VirtQueue(memory, layout, eventIndex, saved);
      });
    } catch (error) { // the vCPU's side refuses these: registers changed in between
      this.#releaseQueues();
      this.#needsReset(messageOf(error));
      return;
    }
    this.#active = true;
    this.device.activate({ features, queues: this.#queues });
    // What was notified before now may have been lost.
    for (const queue of this.#queues.keys()) this.handleQueue(queue);
  }

  #deactivate(): void {
    if (!this.#active) return;
    this.#active = false;
    try {
      this.device.reset();
    } catch (error) { // a defect of ours: the vCPU that waits for the reset must go on
      this.warn(`Cannot reset ${this.device.name} in full: ${messageOf(error)}`);
    }
    this.#releaseQueues();
  }

  #releaseQueues(): void {
    for (const queue of this.#queues) queue?.[Symbol.dispose]();
    this.#queues = this.device.queueSizes.map(() => undefined);
  }

  /** virtio 1.2, 2.1.2: the device sets DEVICE_NEEDS_RESET and sends a configuration change. */
  #needsReset(why: string): void {
    const { words } = this.state;
    const before = Atomics.or(words, Word.status, Status.DEVICE_NEEDS_RESET);
    if ((before & Status.DEVICE_NEEDS_RESET) !== 0) return;
    this.#interrupt(Interrupt.CONFIG);
    if (!this.#warned) {
      this.#warned = true; // once
      this.warn(`Cannot go on with ${this.device.name} before the guest resets it: ${why}`);
    }
  }

  #interrupt(bit: number): void {
    // A bit that is still set has an edge under way whose handler has not acknowledged it yet, and
    // which looks at the queues after it did: another edge would find nothing.
    if ((Atomics.or(this.state.words, Word.interruptStatus, bit) & bit) === 0) {
      this.#options.interrupt();
    }
  }

  /** See {@linkcode DeviceHost.publish}. */
  publish(queue: number, lazy = false): void {
    const ring = this.#queues[queue];
    if (ring === undefined || !ring.publish()) return;
    if (!lazy) {
      this.#lazy = false;
      this.#interrupt(Interrupt.VRING);
    } else if (!this.#lazy) {
      this.#lazy = true;
      this.#options.scheduler.after(LAZY_INTERRUPT, () => this.flush());
    }
  }

  /** See {@linkcode DeviceHost.flush}. */
  flush(): void {
    if (!this.#lazy) return;
    this.#lazy = false;
    if (this.#active) this.#interrupt(Interrupt.VRING);
  }

  /** See {@linkcode DeviceHost.again}. */
  again(queue: number): void {
    this.#options.scheduler.defer(() => this.handleQueue(queue));
  }

  /** See {@linkcode DeviceHost.after}. */
  after(milliseconds: number, task: () => void): void {
    this.#options.scheduler.after(milliseconds, () => {
      if (!this.#disposed) this.#attempt(task);
    });
  }

  /** See {@linkcode DeviceHost.load}. */
  load<T>(module: () => Promise<T>, use: (module: T) => void): void {
    this.#options.scheduler.outside(async () => {
      const loaded = await module();
      return () => {
        if (!this.#disposed) this.#attempt(() => use(loaded));
      };
    });
  }

  /** See {@linkcode DeviceHost.updateConfig}. */
  updateConfig(change: (config: Uint8Array) => void): void {
    this.state.updateConfig(change);
    if (this.#active) this.#interrupt(Interrupt.CONFIG);
  }

  /** See {@linkcode DeviceHost.watch}. */
  watch(fd: number, events: FdEvents, handler: FdHandler): void {
    this.#options.scheduler.watch(fd, events, (events) => this.#attempt(() => handler(events)));
  }

  /** See {@linkcode DeviceHost.unwatch}. */
  unwatch(fd: number): void {
    this.#options.scheduler.unwatch(fd);
  }

  /** See {@linkcode DeviceHost.discard}. */
  discard(offset: number, length: number): void {
    this.#options.discard(offset, length);
  }

  /** See {@linkcode DeviceHost.warn}. */
  warn(message: string): void {
    if (this.#warnings++ < MAX_WARNINGS) this.#options.warn(message);
  }

  /** See {@linkcode DeviceHost.post}. */
  post(event: unknown): void {
    this.#options.post(event);
  }

  /** Looks at everything again after the device was frozen. */
  thaw(): void {
    this.handleCommands();
    for (const queue of this.#queues.keys()) this.handleQueue(queue);
  }

  /** What a snapshot keeps. The vCPUs are paused, and the scheduler is frozen. */
  save(): SlotSnapshot {
    this.flush();
    return {
      name: this.device.name,
      device: this.device.save(),
      queues: this.device.queueSizes.map((_, queue) => this.#queues[queue]?.save() ?? null),
      transport: this.state.save(),
    };
  }

  /**
   * Goes on where a snapshot was made. Guest memory is in place, and so are the registers
   * ({@linkcode TransportState.restore}); the vCPUs may run already.
   *
   * @throws {RangeError} when the snapshot is of another kind of device
   */
  restore(snapshot: Omit<SlotSnapshot, "transport">): void {
    const { state } = this;
    if (snapshot.name !== this.device.name) {
      throw new RangeError(`a snapshot of ${snapshot.name} is not for ${this.device.name}`);
    }
    this.#deactivate();
    this.device.restore(snapshot.device);
    if (state.get(Word.active) !== 0) this.#activate(snapshot.queues);
    // An edge that was on its way is lost with the old interrupt controller's line; a spare one
    // does no harm.
    if (state.get(Word.interruptStatus) !== 0) this.#options.interrupt();
  }

  /** Ends the device. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#active = false;
    this.device[Symbol.dispose]();
    this.#releaseQueues();
  }
}
