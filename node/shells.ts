/**
 * Clones that wait for requests, of the snapshots that were asked for last: making a VM, its threads
 * and its memory slot takes 50 ms, letting it loose one.
 *
 * A waiting clone has touched none of its memory; it costs its threads, some 5 MiB.
 *
 * @module
 */
import { messageOf } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { Clone } from "./clone.ts";

/** How many may wait. */
export interface ShellLimits {
  /** Of one snapshot. */
  readonly each: number;
  /** Of all together. */
  readonly total: number;
}

interface Shelf {
  readonly make: () => Promise<Clone>;
  readonly waiting: Set<Clone>;
}

/** A clone is made when a request has had this many milliseconds for itself. */
const LULL = 500;

/** See the module. */
export class Shells implements AsyncDisposable {
  readonly #limits: ShellLimits;
  readonly #progress: Progress;
  /** By key of the snapshot, the one asked for last at the end. */
  readonly #shelves = new Map<string, Shelf>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #filling: Promise<void> = Promise.resolve();
  #closed = false;

  /** @param progress hears why none could be made */
  constructor(limits: ShellLimits, progress: Progress) {
    this.#limits = limits;
    this.#progress = progress;
  }

  /** Clones that wait now. */
  get waiting(): number {
    return this.#shelves.values().reduce((sum, { waiting }) => sum + waiting.size, 0);
  }

  /**
   * Takes one that waits, or makes one.
   *
   * @param key says what the clones of `make` are: of which snapshot, with which hardware
   * @param make makes one, and is kept to make more
   */
  async take(key: string, make: () => Promise<Clone>): Promise<Clone> {
    const shelf = { make, waiting: this.#shelves.get(key)?.waiting ?? new Set<Clone>() };
    this.#shelves.delete(key);
    this.#shelves.set(key, shelf);
    const [clone] = shelf.waiting;
    if (clone !== undefined) shelf.waiting.delete(clone);
    this.#fillSoon();
    return clone ?? await make();
  }

  /** Resolves when as many wait as shall. */
  async filled(): Promise<void> {
    clearTimeout(this.#timer);
    this.#fillNow();
    await this.#filling;
  }

  #fillSoon(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fillNow(), LULL);
    Deno.unrefTimer(this.#timer);
  }

  #fillNow(): void {
    this.#filling = this.#filling.then(() => this.#fill());
  }

  async #fill(): Promise<void> {
    let room = this.#limits.total;
    for (const [key, shelf] of [...this.#shelves].reverse()) {
      const wanted = Math.min(this.#limits.each, room);
      room -= wanted;
      for (const clone of [...shelf.waiting].slice(wanted)) {
        shelf.waiting.delete(clone);
        await clone[Symbol.asyncDispose]();
      }
      if (wanted === 0) this.#shelves.delete(key);
      while (shelf.waiting.size < wanted && !this.#closed) {
        try {
          const clone = await shelf.make();
          shelf.waiting.add(clone);
          // One that ends by itself, or while it waits, is of no use.
          void clone.vm.outcome.then(() => shelf.waiting.delete(clone));
        } catch (error) { // the snapshot was removed, say: the next request makes it anew
          this.#shelves.delete(key);
          this.#progress.info(`No microVM is kept ready: ${messageOf(error)}`);
          break;
        }
      }
    }
  }

  /** Ends those that wait. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#filling;
    const clones = [...this.#shelves.values()].flatMap(({ waiting }) => [...waiting]);
    this.#shelves.clear();
    await Promise.all(clones.map((clone) => clone[Symbol.asyncDispose]()));
  }
}
