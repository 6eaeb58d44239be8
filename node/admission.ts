/**
 * Who may start a machine, and when: a limit on machines and on their memory, with a queue.
 *
 * First come, first served: a small request does not overtake a large one, so that none starves.
 *
 * What waits for requests (prewarmed VMs, paused clones) counts as well, but holds its place only
 * while no request needs it: {@linkcode Admission.reserve}.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";

/** What is shared out. */
export interface AdmissionLimits {
  /** Most machines at a time. */
  readonly machines: number;
  /** Memory of all machines together, in MiB. */
  readonly memory: number;
  /** Most requests that wait. */
  readonly queue: number;
  /** Longest wait in milliseconds. */
  readonly wait: number;
}

/** The right to run one machine; disposing gives it back. */
export type Lease = Disposable;

/** How much something takes. */
export interface Cost {
  /** Of {@linkcode AdmissionLimits.machines}. */
  readonly machines: number;
  /** Of {@linkcode AdmissionLimits.memory}, in MiB. */
  readonly memory: number;
}

/** A place that is given up when a request needs it; disposing gives it back. */
export interface IdleLease extends Disposable {
  /** Makes it a request's own: it is not evicted any more. Undefined when it was evicted already. */
  claim(): Lease | undefined;
}

/** How a place is reserved for what waits. */
export interface Reservation {
  /** How much it takes. */
  readonly cost: Cost;
  /** Of several that could be evicted, those with the lowest rank are; of one rank, the oldest. */
  readonly rank: number;
  /** A request needs the place: the lease is to be disposed as soon as its memory is free. */
  readonly evict: () => void;
}

interface Waiting {
  readonly memory: number;
  readonly admit: (lease: Lease) => void;
}

interface Idle extends Reservation {
  state: "idle" | "evicting";
}

/** A full house: later the same request may be taken. */
function exhausted(why: string): CloudletError {
  return new CloudletError(`Cannot start the microVM: ${why}`, {
    code: "exhausted",
    remedy: "try again later, or raise the limits of the server",
  });
}

/** What requests hold of a node. */
export interface InUse {
  /** What is shared out. */
  readonly limits: AdmissionLimits;
  /** Machines of requests. */
  readonly machines: number;
  /** Their memory in MiB. */
  readonly memory: number;
  /** Requests that wait. */
  readonly queued: number;
}

/**
 * Refuses a machine that would never fit.
 *
 * @param memory of the machine, in MiB
 * @throws {CloudletError} `invalid-input`
 */
export function checkMemory(limits: Pick<AdmissionLimits, "memory">, memory: number): void {
  if (memory <= limits.memory) return;
  throw new CloudletError(
    `Cannot start the microVM: it asks for ${memory} MiB of memory, and all microVMs together ` +
      `may have ${limits.memory} MiB`,
    { code: "invalid-input", remedy: "ask for less memory, or raise the limit of the server" },
  );
}

/**
 * Tells whether it is worth waiting for a machine's place; what is idle gives way.
 *
 * @param memory of the machine, in MiB
 * @throws {CloudletError} `invalid-input` for what never fits, `exhausted` when the queue is full
 */
export function checkCapacity(
  { limits, machines, memory: used, queued }: InUse,
  memory: number,
): void {
  checkMemory(limits, memory);
  if (queued === 0 && machines < limits.machines && used + memory <= limits.memory) return;
  if (queued >= limits.queue) throw exhausted(`${machines} are running and ${queued} wait`);
}

/** Shares out machines and memory. */
export class Admission {
  #machines = 0;
  #memory = 0;
  readonly #idle = new Set<Idle>(); // in the order of their reservation
  readonly #listeners = new Set<() => void>();
  readonly #waiting = new Set<Waiting>(); // in the order of arrival

  /** @param limits what is shared out */
  constructor(readonly limits: AdmissionLimits) {}

  /** Machines admitted now. */
  get machines(): number {
    return this.#machines;
  }

  /** Memory of the machines admitted now, in MiB. */
  get memory(): number {
    return this.#memory;
  }

  /** What is reserved for what waits for requests. */
  get idle(): Cost {
    return sum([...this.#idle].map(({ cost }) => cost));
  }

  /** Requests that wait. */
  get queued(): number {
    return this.#waiting.size;
  }

  /**
   * Tells whether it is worth waiting for a machine's place.
   *
   * @param memory of the machine, in MiB
   * @throws {CloudletError} `invalid-input` for what never fits, `exhausted` when the queue is full
   */
  check(memory: number): void {
    checkCapacity(this, memory);
  }

  /**
   * Waits for a machine's place.
   *
   * @param memory of the machine, in MiB
   * @param signal ends the wait; its reason is thrown
   * @throws {CloudletError} as {@linkcode check}, and `exhausted` when the wait is too long
   */
  async acquire(memory: number, signal: AbortSignal): Promise<Lease> {
    signal.throwIfAborted();
    this.check(memory);
    if (this.#waiting.size === 0 && this.#fits(memory)) return this.#lease(memory);
    const { promise, resolve, reject } = Promise.withResolvers<Lease>();
    const waiting: Waiting = { memory, admit: resolve };
    // Leaves the queue and settles in one step, so that nobody admits one who has given up.
    const leave = (why: unknown) => {
      if (!this.#waiting.delete(waiting)) return;
      reject(why);
      this.#admitWaiting(); // whoever stood behind may fit
    };
    const giveUp = () => leave(signal.reason);
    const timer = setTimeout(
      () => leave(exhausted(`no place became free within ${this.limits.wait / 1000} s`)),
      this.limits.wait,
    );
    signal.addEventListener("abort", giveUp);
    this.#waiting.add(waiting);
    this.#evictForFirst();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
    }
  }

  /**
   * Takes a place for something that waits for requests, if there is one that no request needs.
   *
   * @returns undefined when there is none now; {@linkcode whenRoom} tells when to try again
   */
  reserve(reservation: Reservation): IdleLease | undefined {
    const { machines, memory } = sum([reservation.cost, this.idle]);
    if (this.#waiting.size > 0 || this.#machines + machines > this.limits.machines) {
      return undefined;
    }
    if (this.#memory + memory > this.limits.memory) return undefined;
    const idle: Idle = { ...reservation, state: "idle" };
    this.#idle.add(idle);
    return {
      claim: () => {
        if (idle.state !== "idle" || !this.#idle.delete(idle)) return undefined;
        return this.#take(idle.cost);
      },
      [Symbol.dispose]: () => {
        if (this.#idle.delete(idle)) this.#admitWaiting();
      },
    };
  }

  /** Calls back whenever something became free that no request waits for, until disposed. */
  whenRoom(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  #fits(memory: number, idle: Cost = this.idle): boolean {
    return this.#machines + idle.machines < this.limits.machines &&
      this.#memory + idle.memory + memory <= this.limits.memory;
  }

  #lease(memory: number): Lease {
    return this.#take({ machines: 1, memory });
  }

  #take({ machines, memory }: Cost): Lease {
    this.#machines += machines;
    this.#memory += memory;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#machines -= machines;
        this.#memory -= memory;
        this.#admitWaiting();
      },
    };
  }

  #admitWaiting(): void {
    for (const waiting of this.#waiting) {
      if (!this.#fits(waiting.memory)) return this.#evictForFirst();
      this.#waiting.delete(waiting);
      waiting.admit(this.#lease(waiting.memory));
    }
    for (const listener of this.#listeners) listener();
  }

  /** Evicts no more than the first in the queue needs, and nothing where that would not do. */
  #evictForFirst(): void {
    const [first] = this.#waiting;
    if (first === undefined || !this.#fits(first.memory, NOTHING)) return;
    const { memory } = first;
    const stays = new Set([...this.#idle].filter(({ state }) => state === "idle"));
    const enough = () => this.#fits(memory, sum([...stays].map(({ cost }) => cost)));
    const byRank = [...stays].sort((a, b) => a.rank - b.rank);
    const chosen: Idle[] = [];
    for (const idle of byRank) {
      if (enough()) break;
      stays.delete(idle);
      chosen.push(idle);
    }
    const victims = chosen.filter((idle) => {
      stays.add(idle);
      if (enough()) return false; // others make the room
      stays.delete(idle);
      return true;
    });
    for (const idle of victims) idle.state = "evicting";
    for (const idle of victims) idle.evict();
  }
}

const NOTHING: Cost = { machines: 0, memory: 0 };

function sum(costs: readonly Cost[]): Cost {
  return costs.reduce((all, { machines, memory }) => ({
    machines: all.machines + machines,
    memory: all.memory + memory,
  }), NOTHING);
}
