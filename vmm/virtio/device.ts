/**
 * What every virtio device is, and what it is given to work with.
 *
 * A device runs in the device worker: one thread, so that nothing in it needs a lock. It is driven
 * by three things: notifications of its queues, events of its file descriptors, and commands.
 *
 * @module
 */
import type { DeviceMemory } from "./memory.ts";
import type { VirtQueue } from "./queue.ts";
import type { DeviceDescription } from "./state.ts";

/** Something that can be written as JSON, and is what a snapshot keeps of a device. */
export type DeviceState =
  | null
  | boolean
  | number
  | string
  | readonly DeviceState[]
  | { readonly [name: string]: DeviceState };

/** `EPOLL*` bits that were reported for a descriptor. */
export type FdEvents = number;

/** Called when a watched descriptor has something. */
export type FdHandler = (events: FdEvents) => void;

/** What the device worker does for a device. */
export interface DeviceHost {
  /** The guest's RAM. */
  readonly memory: DeviceMemory;
  /**
   * Shows the driver what was given back in a queue, and interrupts it if it wants that.
   *
   * @param queue index of the queue
   * @param lazy the interrupt may wait until something else needs one, at most some milliseconds
   */
  publish(queue: number, lazy?: boolean): void;
  /** Interrupts now for what was published lazily. */
  flush(): void;
  /** Has {@linkcode Device.handleQueue} called again soon, after other work had its turn. */
  again(queue: number): void;
  /** Runs a task after some milliseconds, unless the device has ended; it cannot be taken back. */
  after(milliseconds: number, task: () => void): void;
  /**
   * Loads what is seldom needed. All devices of the thread stand still meanwhile.
   *
   * @param module loads it
   * @param use takes it, in a turn of the device; not called when it cannot be loaded, or when the device
   *   has ended meanwhile
   */
  load<T>(module: () => Promise<T>, use: (module: T) => void): void;
  /** Changes the configuration space and tells the driver. */
  updateConfig(change: (config: Uint8Array) => void): void;
  /**
   * Watches a descriptor.
   *
   * @param fd a descriptor that the device owns
   * @param events `EPOLL*` bits
   * @param handler what to call
   */
  watch(fd: number, events: FdEvents, handler: FdHandler): void;
  /** Stops watching; call it before closing the descriptor. */
  unwatch(fd: number): void;
  /** Gives pages back to the host: they read as whatever the mapping starts with. */
  discard(offset: number, length: number): void;
  /**
   * Tells the main thread's half of the device something: `heard` of its kind takes it. A device
   * bounds what the main thread has not taken yet.
   *
   * @param event structured-clonable
   */
  post(event: unknown): void;
  /** Tells the main thread something that a person may want to know; of many, the first ones. */
  warn(message: string): void;
}

/** What a driver has set up. */
export interface Activation {
  /** Features that both sides agreed on. */
  readonly features: bigint;
  /** The queues by index; undefined for one that the driver left alone. */
  readonly queues: readonly (VirtQueue | undefined)[];
}

/**
 * One virtio device. While its VM is frozen for a snapshot nothing but {@linkcode Device.save},
 * {@linkcode Device.counters} and its disposal is called: whatever else it does, it does when its
 * host calls it.
 */
export interface Device<Request = never> extends DeviceDescription, Disposable {
  /** A short name for messages, such as `blk`. */
  readonly name: string;
  /** The driver is ready. Called once, until {@linkcode Device.reset}. */
  activate(activation: Activation): void;
  /** The driver says that there is something in a queue, or there may be. */
  handleQueue(queue: number): void;
  /** The driver wrote to the configuration space, whose content is given. */
  handleConfig?(config: Uint8Array): void;
  /** The main thread asks for something. */
  request?(request: Request): void;
  /** What the device counts, by name; called at any time. */
  counters?(): Readonly<Record<string, number>>;
  /** Lets go of the queues and of everything that belongs to the driver's session. */
  reset(): void;
  /** What a snapshot keeps besides the transport and the queues; the device is quiet. */
  save(): DeviceState;
  /** Takes over what was saved; {@linkcode Device.activate} follows if it was active. */
  restore(state: DeviceState): void;
}

/**
 * Works off a queue: calls `handle` for each chain and gives it back with the length that was
 * returned, then shows all of it to the driver at once.
 *
 * @param host of the device
 * @param index of the queue
 * @param queue to work off
 * @param handle returns how many bytes it wrote to the chain
 * @param holdOff milliseconds that the chain has to wait; it stays in the queue then, and so do those
 *   behind it
 * @returns milliseconds until the queue's next turn, which the caller sees to; 0 for none
 */
export function drain(
  host: DeviceHost,
  index: number,
  queue: VirtQueue,
  handle: (queue: VirtQueue) => number,
  holdOff?: (queue: VirtQueue) => number,
): number {
  queue.disableNotifications();
  let wait = 0;
  // Bounded, so that a driver that keeps adding does not starve the other devices.
  for (let budget = queue.size; budget > 0 && queue.pop(); budget--) {
    const { head } = queue;
    wait = holdOff?.(queue) ?? 0;
    if (wait > 0) {
      queue.unpop();
      break;
    }
    queue.push(head, handle(queue));
  }
  host.publish(index);
  if (wait === 0 && queue.enableNotifications()) host.again(index);
  return wait;
}
