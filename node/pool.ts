/**
 * What waits for requests, at two temperatures:
 *
 * - A **prewarmed VM** is a machine that runs and whose agent has answered. So many of each kind wait
 *   as the operator said.
 * - A **paused clone** is a VM with everything of a snapshot in its place, which has not run yet.
 *   So many wait of each snapshot that was asked for lately.
 *
 * Each holds a place in the node's admission while it waits, and is evicted when a request needs the
 * place. Making one that waits never delays a request: it begins when there was no request for a
 * moment, one at a time, and gives up its place like those that are made.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { Admission, Cost, IdleLease, Lease } from "./admission.ts";
import { type Clock, systemClock } from "./clock.ts";

/** Something that can wait. */
export interface Waiting extends AsyncDisposable {
  /** Resolves when it has ended by itself; it is of no use then. */
  readonly ended: Promise<unknown>;
}

/** Prewarmed VMs of one kind. */
export interface PrewarmedKind<M> {
  /** What they are, for messages, such as "python". */
  readonly name: string;
  /** How many wait. */
  readonly count: number;
  /** Memory of each in MiB. */
  readonly memory: number;
  /** Makes one; aborted when its place is needed, or the pool is closed. */
  readonly make: (signal: AbortSignal) => Promise<M>;
}

/** How many paused clones wait. */
export interface PausedLimits {
  /** Of one snapshot. */
  readonly each: number;
  /** Of all snapshots. */
  readonly total: number;
}

/** A pool's parts. */
export interface PoolOptions<M extends Waiting> {
  /** Counts what waits. */
  readonly admission: Pick<Admission, "reserve" | "whenRoom">;
  /** The machines that shall wait. */
  readonly prewarmed: readonly PrewarmedKind<M>[];
  /** How many clones may wait. */
  readonly paused: PausedLimits;
  /** Hears why something cannot wait. */
  readonly progress: Progress;
  /** Tells the time; the system's when absent. */
  readonly clock?: Clock;
}

/** A prewarmed VM that was handed out, with its place. */
export interface Prewarmed<M> {
  /** The machine; the caller's from now on. */
  readonly machine: M;
  /** Its place. */
  readonly lease: Lease;
}

/** MiB that a paused clone costs: its threads and tables. It has touched no memory of its guest. */
export const PAUSED_MEMORY = 6;
/** Without a request for so many milliseconds, the processors are free to make clones. */
export const LULL = 500;
/** After a prewarmed VM could not be made, or ended soon, in milliseconds. */
export const RETRY = 30_000;

/** Evicted first are those that take the shortest time to make. */
const RANK = { paused: 0, prewarmed: 1 } as const;

interface Entry<T> {
  readonly value: T;
  readonly lease: IdleLease;
  readonly since: number;
}

/** All that wait of one kind. */
interface Stock<T extends Waiting> {
  readonly temperature: keyof typeof RANK;
  readonly name: string;
  readonly cost: Cost;
  make: (signal: AbortSignal) => Promise<T>;
  readonly waiting: Set<Entry<T>>;
  /** Nothing is made before this time. */
  notBefore: number;
}

/** See the module. */
export class Pool<M extends Waiting, C extends Waiting> implements AsyncDisposable {
  readonly #options: PoolOptions<M>;
  readonly #clock: Clock;
  readonly #prewarmed: ReadonlyMap<PrewarmedKind<M>, Stock<M>>;
  /** By key of the snapshot, the one asked for last at the end. */
  readonly #paused = new Map<string, Stock<C>>();
  readonly #end = new AbortController();
  readonly #room: Disposable;
  /** What was taken out of a stock and is not gone yet. */
  readonly #leaving = new Set<Promise<void>>();
  #lullEnds = 0;
  #timer: Disposable | undefined;
  #filling: Promise<void> | undefined;
  #again = false;

  /** Begins to make what shall wait. */
  constructor(options: PoolOptions<M>) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#prewarmed = new Map(options.prewarmed.map((kind) => [kind, {
      temperature: "prewarmed",
      name: kind.name,
      cost: { machines: 1, memory: kind.memory },
      make: kind.make,
      waiting: new Set(),
      notBefore: 0,
    }]));
    this.#room = options.admission.whenRoom(() => this.#fill());
    this.#fill();
  }

  /** How many wait now. */
  get waiting(): { readonly prewarmed: number; readonly paused: number } {
    const count = (stocks: Iterable<Stock<Waiting>>) =>
      [...stocks].reduce((sum, { waiting }) => sum + waiting.size, 0);
    return { prewarmed: count(this.#prewarmed.values()), paused: count(this.#paused.values()) };
  }

  /** Takes a prewarmed VM of the first kind that fits, if one waits. It is replaced. */
  takePrewarmed(fits: (kind: PrewarmedKind<M>) => boolean): Prewarmed<M> | undefined {
    this.#postpone();
    for (const [kind, stock] of this.#prewarmed) {
      if (!fits(kind)) continue;
      for (const entry of stock.waiting) {
        const lease = entry.lease.claim();
        if (lease === undefined) continue; // it is being evicted
        stock.waiting.delete(entry);
        this.#fill();
        return { machine: entry.value, lease };
      }
    }
    return undefined;
  }

  /**
   * Takes a paused clone, if one waits. The request holds the place of a whole machine by now, so
   * that the clone's is given back.
   *
   * @param key says what the clones of `make` are: of which snapshot, with which hardware
   * @param make is kept to make more
   */
  takePaused(key: string, make: (signal: AbortSignal) => Promise<C>): C | undefined {
    this.#postpone();
    const stock = this.#paused.get(key) ?? {
      temperature: "paused",
      name: key,
      cost: { machines: 0, memory: PAUSED_MEMORY },
      make,
      waiting: new Set<Entry<C>>(),
      notBefore: 0,
    };
    stock.make = make;
    stock.notBefore = 0; // what went wrong may be right in this one
    this.#paused.delete(key);
    if (!this.#end.signal.aborted) this.#paused.set(key, stock);
    for (const entry of stock.waiting) {
      const lease = entry.lease.claim();
      if (lease === undefined) continue;
      stock.waiting.delete(entry);
      lease[Symbol.dispose]();
      this.#fill();
      return entry.value;
    }
    this.#fill();
    return undefined;
  }

  /** Resolves when nothing more can be made now; does not wait for a lull. */
  async filled(): Promise<void> {
    this.#lullEnds = 0;
    do {
      this.#fill();
      await this.#filling;
    } while (this.#again || this.#filling !== undefined);
  }

  /** A request came: clones are not made for a moment. */
  #postpone(): void {
    this.#lullEnds = this.#clock.now() + LULL;
  }

  #fill(): void {
    this.#again = true;
    this.#filling ??= this.#fillAll();
  }

  async #fillAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      await Promise.resolve(); // out of whoever called
      this.#dropSurplus();
      while (await this.#makeNext());
    }
    this.#filling = undefined; // nothing was awaited since the last look at #again
    this.#wakeUp();
  }

  /** All stocks in the order in which they are filled, with how many shall wait in each. */
  *#targets(): Generator<readonly [Stock<Waiting>, number]> {
    for (const [{ count }, stock] of this.#prewarmed) yield [stock, count];
    const { each, total } = this.#options.paused;
    let room = total;
    for (const stock of [...this.#paused.values()].reverse()) {
      const wanted = Math.min(each, room);
      room -= wanted;
      yield [stock, wanted];
    }
  }

  /** When something may be made for a stock. */
  #due({ temperature, notBefore }: Stock<Waiting>): number {
    return temperature === "paused" ? Math.max(notBefore, this.#lullEnds) : notBefore;
  }

  /** Clones of snapshots that were asked for longer ago than others. */
  #dropSurplus(): void {
    for (const [stock, wanted] of this.#targets()) {
      for (const entry of [...stock.waiting].slice(wanted)) this.#drop(stock, entry);
    }
    for (const [stock, wanted] of [...this.#targets()]) {
      const idle = wanted === 0 || (stock.notBefore === Infinity && stock.waiting.size === 0);
      if (idle && stock.temperature === "paused") this.#paused.delete(stock.name);
    }
  }

  /** Makes one of what is missing. @returns false when nothing is, or nothing can be made now */
  async #makeNext(): Promise<boolean> {
    if (this.#end.signal.aborted) return false;
    for (const [stock, wanted] of this.#targets()) {
      if (stock.waiting.size >= wanted || this.#due(stock) > this.#clock.now()) continue;
      if (await this.#makeOne(stock)) return true;
    }
    return false;
  }

  /** @returns false when there is no place for it */
  async #makeOne(stock: Stock<Waiting>): Promise<boolean> {
    const evicted = new AbortController();
    let evict = () => evicted.abort(needed());
    const lease = this.#options.admission.reserve({
      cost: stock.cost,
      rank: RANK[stock.temperature],
      evict: () => evict(),
    });
    if (lease === undefined) return false;
    const since = this.#clock.now();
    try {
      const value = await stock.make(AbortSignal.any([evicted.signal, this.#end.signal]));
      const entry = { value, lease, since };
      if (evicted.signal.aborted) {
        this.#leave(entry);
      } else {
        stock.waiting.add(entry);
        evict = () => {
          this.#drop(stock, entry);
          stock.notBefore = this.#clock.now() + LULL; // the next request may need the place as well
        };
        void value.ended.then(() => this.#ended(stock, entry));
      }
    } catch (error) {
      lease[Symbol.dispose]();
      if (!evicted.signal.aborted && !this.#end.signal.aborted) {
        this.#failed(stock, messageOf(error));
      }
    }
    if (evicted.signal.aborted) stock.notBefore = this.#clock.now() + LULL;
    return true;
  }

  /** One that ended while it waited. */
  #ended(stock: Stock<Waiting>, entry: Entry<Waiting>): void {
    if (!stock.waiting.has(entry)) return; // a request's by now, or gone
    this.#drop(stock, entry);
    // One that ends at once would be made again and again.
    if (this.#clock.now() - entry.since < RETRY) this.#failed(stock, "it ended");
    this.#fill();
  }

  /** Those that wait stay: they were made when it was possible. */
  #failed(stock: Stock<Waiting>, why: string): void {
    const { temperature, name } = stock;
    const paused = temperature === "paused"; // its snapshot was removed, say: a request makes it anew
    stock.notBefore = paused ? Infinity : this.#clock.now() + RETRY;
    const what = paused ? "No paused clone is kept ready" : `No prewarmed ${name} VM can wait`;
    this.#options.progress.info(`${what}: ${why}`);
  }

  #drop(stock: Stock<Waiting>, entry: Entry<Waiting>): void {
    if (stock.waiting.delete(entry)) this.#leave(entry);
  }

  /** Ends one, and gives its place back when its memory is free. */
  #leave({ value, lease }: Entry<Waiting>): void {
    const gone = (async () => {
      try {
        await value[Symbol.asyncDispose]();
      } catch (error) {
        this.#options.progress.info(`A microVM that waited did not end: ${messageOf(error)}`);
      }
      lease[Symbol.dispose]();
    })();
    this.#leaving.add(gone);
    void gone.then(() => this.#leaving.delete(gone));
  }

  /** Fills again when the first of what is missing is due. */
  #wakeUp(): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    if (this.#end.signal.aborted) return;
    const now = this.#clock.now();
    const times = [...this.#targets()].filter(([stock, wanted]) => stock.waiting.size < wanted)
      .map(([stock]) => this.#due(stock)).filter((time) => time > now && time < Infinity);
    if (times.length === 0) return; // nothing is missing, or there is no room: whenRoom tells
    this.#timer = this.#clock.after(Math.min(...times) - now, () => this.#fill());
  }

  /** Ends what waits and what is being made; what was handed out is its request's. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new CloudletError("Cannot wait: the pool was closed", { code: "cancelled" }));
    this.#room[Symbol.dispose]();
    this.#timer?.[Symbol.dispose]();
    while (this.#filling !== undefined) await this.#filling;
    for (const stock of [...this.#prewarmed.values(), ...this.#paused.values()]) {
      for (const entry of [...stock.waiting]) this.#drop(stock, entry);
    }
    this.#paused.clear();
    while (this.#leaving.size > 0) await Promise.all(this.#leaving);
  }
}

function needed(): CloudletError {
  return new CloudletError("Cannot wait: a request needs the place", { code: "cancelled" });
}
