/**
 * The part of the device thread's loop that belongs to one VM: it can be frozen and ended while the
 * other VMs' parts go on.
 *
 * @module
 */
import type { FdEvents, FdHandler } from "../virtio/device.ts";
import type { Scheduler } from "../virtio/slot.ts";
import type { Poller } from "./poller.ts";

interface Watch {
  readonly events: FdEvents;
  readonly handler: FdHandler;
}

/**
 * A scheduler over a {@linkcode Poller}. While it is frozen it calls no handler and no task: both
 * wait until it thaws.
 */
export class LoopShare implements Scheduler, Disposable {
  readonly #poller: Poller;
  readonly #onError: (error: unknown) => void;
  readonly #watches = new Map<number, Watch>();
  /** Tasks that came due while it was frozen. */
  #held: (() => void)[] = [];
  #frozen = false;
  #disposed = false;

  /**
   * @param poller the thread's loop
   * @param onError called with what a handler or a task threw
   */
  constructor(poller: Poller, onError: (error: unknown) => void) {
    this.#poller = poller;
    this.#onError = onError;
  }

  /** Whether it is frozen. */
  get frozen(): boolean {
    return this.#frozen;
  }

  /** See {@linkcode Scheduler.watch}. */
  watch(fd: number, events: FdEvents, handler: FdHandler): void {
    const watch = { events, handler };
    this.#watches.set(fd, watch);
    if (!this.#frozen) this.#watch(fd, watch);
  }

  #watch(fd: number, { events, handler }: Watch): void {
    this.#poller.watch(fd, events, (events) => this.#attempt(() => handler(events)));
  }

  /** See {@linkcode Scheduler.unwatch}. */
  unwatch(fd: number): void {
    if (this.#watches.delete(fd) && !this.#frozen) this.#poller.unwatch(fd);
  }

  /** See {@linkcode Scheduler.defer}. */
  defer(task: () => void): void {
    this.#poller.defer(() => this.#due(task));
  }

  /** See {@linkcode Scheduler.after}. */
  after(milliseconds: number, task: () => void): void {
    this.#poller.after(milliseconds, () => this.#due(task));
  }

  /** See {@linkcode Scheduler.outside}. */
  outside(work: () => Promise<() => void>): void {
    this.#poller.outside(async () => {
      try {
        const task = await work();
        return () => this.#due(task);
      } catch (error) {
        return () => this.#onError(error);
      }
    });
  }

  #due(task: () => void): void {
    if (this.#frozen) this.#held.push(task);
    else this.#attempt(task);
  }

  #attempt(task: () => void): void {
    if (this.#disposed) return;
    try {
      task();
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Calls nothing from now on. Does nothing when it is frozen. */
  freeze(): void {
    if (this.#frozen) return;
    this.#frozen = true;
    for (const fd of this.#watches.keys()) this.#poller.unwatch(fd);
  }

  /** Goes on, with what came due meanwhile first. */
  thaw(): void {
    if (!this.#frozen) return;
    this.#frozen = false;
    const held = this.#held;
    this.#held = [];
    for (const task of held) this.defer(task);
    // epoll_ctl(2): an added descriptor that is ready is reported, an edge-triggered one too.
    for (const [fd, watch] of this.#watches) this.#watch(fd, watch);
  }

  /** Leaves the loop; no task that is still in it runs. */
  [Symbol.dispose](): void {
    this.freeze();
    this.#disposed = true;
    this.#watches.clear();
    this.#held = [];
  }
}
