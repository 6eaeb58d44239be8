/**
 * Who may start a machine, and when: a limit on machines and on their memory, with a queue.
 *
 * First come, first served: a small request does not overtake a large one, so that none starves.
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

interface Waiting {
  readonly memory: number;
  readonly admit: (lease: Lease) => void;
}

/** A full house: later the same request may be taken. */
function exhausted(why: string): CloudletError {
  return new CloudletError(`Cannot start the microVM: ${why}`, {
    code: "exhausted",
    remedy: "try again later, or raise the limits of the server",
  });
}

/** Shares out machines and memory. */
export class Admission {
  #machines = 0;
  #memory = 0;
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
    if (memory > this.limits.memory) {
      throw new CloudletError(
        `Cannot start the microVM: it asks for ${memory} MiB of memory, and all microVMs together ` +
          `may have ${this.limits.memory} MiB`,
        { code: "invalid-input", remedy: "ask for less memory, or raise the limit of the server" },
      );
    }
    if (this.#waiting.size === 0 && this.#fits(memory)) return;
    if (this.#waiting.size >= this.limits.queue) {
      throw exhausted(`${this.#machines} are running and ${this.#waiting.size} wait`);
    }
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
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", giveUp);
    }
  }

  #fits(memory: number): boolean {
    return this.#machines < this.limits.machines && this.#memory + memory <= this.limits.memory;
  }

  #lease(memory: number): Lease {
    this.#machines++;
    this.#memory += memory;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#machines--;
        this.#memory -= memory;
        this.#admitWaiting();
      },
    };
  }

  #admitWaiting(): void {
    for (const waiting of this.#waiting) {
      if (!this.#fits(waiting.memory)) return;
      this.#waiting.delete(waiting);
      waiting.admit(this.#lease(waiting.memory));
    }
  }
}
