/**
 * The device worker's loop: epoll(7) over eventfds and sockets, deferred work and timers. It blocks
 * its thread.
 *
 * @module
 */
import { messageOf } from "../../base/errors.ts";
import { EINTR } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { check, errno, libc } from "../../ffi/libc.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, epoll_event } from "../../ffi/uapi/mman.ts";
import type { FdHandler } from "../virtio/device.ts";
import type { Scheduler } from "../virtio/slot.ts";

const MAX_EVENTS = 64;

interface Watch {
  readonly token: number;
  readonly handler: FdHandler;
}

interface Timer {
  readonly due: number;
  readonly task: () => void;
}

/** An event loop of its own. */
export class Poller implements Scheduler, Disposable {
  readonly #epoll = new OwnedFd(check("epoll_create1", libc().epoll_create1(EPOLL_CLOEXEC)));
  readonly #watches = new Map<number, Watch>();
  /** By token: an event that was reported for a descriptor of the past must find nobody. */
  readonly #handlers = new Map<number, FdHandler>();
  readonly #events = new Uint8Array(MAX_EVENTS * epoll_event.size);
  readonly #view = new DataView(this.#events.buffer);
  #deferred: (() => void)[] = [];
  #timers: Timer[] = [];
  #outside: (() => Promise<() => void>)[] = [];
  #token = 0;
  #running = false;
  #stopped = false;
  #broken = false;

  /** @param onError told what a handler threw; the loop goes on */
  constructor(readonly onError: (message: string) => void) {}

  /** See {@linkcode Scheduler.watch}. */
  watch(fd: number, events: number, handler: FdHandler): void {
    const token = ++this.#token;
    const event = new Uint8Array(epoll_event.size);
    epoll_event.set(new DataView(event.buffer), 0, { events: events >>> 0, data: BigInt(token) });
    check("epoll_ctl", libc().epoll_ctl(this.#epoll.fd, EPOLL_CTL_ADD, fd, event));
    this.#watches.set(fd, { token, handler });
    this.#handlers.set(token, handler);
  }

  /** See {@linkcode Scheduler.unwatch}. */
  unwatch(fd: number): void {
    const watch = this.#watches.get(fd);
    if (watch === undefined) return;
    this.#watches.delete(fd);
    this.#handlers.delete(watch.token);
    if (this.#broken) return; // nothing is watched
    check("epoll_ctl", libc().epoll_ctl(this.#epoll.fd, EPOLL_CTL_DEL, fd, null));
  }

  /** See {@linkcode Scheduler.defer}. */
  defer(task: () => void): void {
    this.#deferred.push(task);
  }

  /** See {@linkcode Scheduler.after}. */
  after(milliseconds: number, task: () => void): void {
    this.#timers.push({ due: performance.now() + milliseconds, task });
    this.#timers.sort((a, b) => a.due - b.due);
  }

  /** See {@linkcode Scheduler.outside}. */
  outside(work: () => Promise<() => void>): void {
    this.#outside.push(work);
    this.#running = false;
  }

  /** Ends {@linkcode Poller.run} after the current round. */
  stop(): void {
    this.#stopped = true;
    this.#running = false;
  }

  /** Runs until {@linkcode Poller.stop}; resolves at once when nothing is to be done outside. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      this.#running = true;
      while (this.#running) this.runOnce(this.#patience());
      await this.doOutside();
    }
  }

  /** Does what the loop stands still for. */
  async doOutside(): Promise<void> {
    for (const work of this.#outside.splice(0)) {
      try {
        const task = await work();
        this.#guard(task);
      } catch (error) {
        this.onError(messageOf(error));
      }
    }
  }

  /** How long the loop may wait, in milliseconds; -1 is for ever. */
  #patience(): number {
    if (this.#deferred.length > 0) return 0;
    const next = this.#timers[0];
    return next === undefined ? -1 : Math.max(0, Math.ceil(next.due - performance.now()));
  }

  /**
   * One round.
   *
   * @param timeout how long to wait for an event, in milliseconds; -1 is for ever
   */
  runOnce(timeout: number): void {
    const count = libc().epoll_wait(this.#epoll.fd, this.#events, MAX_EVENTS, timeout);
    if (count < 0) {
      const error = errno();
      if (error !== EINTR) {
        this.#broken = true;
        throw new SyscallError("epoll_wait", error);
      }
    }
    for (let i = 0; i < count; i++) {
      // struct epoll_event { uint32_t events; uint64_t data; }, packed; tokens stay below 2^32
      const at = i * epoll_event.size;
      const handler = this.#handlers.get(this.#view.getUint32(at + 4, true));
      const events = this.#view.getUint32(at, true);
      if (handler !== undefined) this.#guard(() => handler(events));
    }
    const now = performance.now();
    while (this.#timers[0] !== undefined && this.#timers[0].due <= now) {
      this.#guard(this.#timers.shift()!.task);
    }
    const tasks = this.#deferred; // which may defer more, for the next round
    this.#deferred = [];
    for (const task of tasks) this.#guard(task);
  }

  #guard(task: () => void): void {
    try {
      task();
    } catch (error) {
      this.onError(messageOf(error));
    }
  }

  /** Ends the loop's own descriptor; what it watched belongs to others. */
  [Symbol.dispose](): void {
    this.#watches.clear();
    this.#handlers.clear();
    this.#epoll[Symbol.dispose]();
  }
}
