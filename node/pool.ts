/**
 * Machines that wait for their run: made ahead of time, handed out at once, and replaced.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { Machine, MachineFactory, MachineRequest } from "./machine_factory.ts";

/** Machines of one kind that shall wait. */
export interface PoolKind {
  /** Name of the language that they are for. */
  readonly language: string;
  /** How many wait. */
  readonly count: number;
  /** Memory of each in MiB. */
  readonly memory: number;
}

const VCPUS = 1;
/** After a machine could not be made, in milliseconds. */
const RETRY = 30_000;

interface Shelf extends PoolKind {
  readonly waiting: Set<Machine>;
}

/**
 * Stands between the service and what makes machines: {@linkcode MachinePool.factory} hands out one
 * that waits, where the request is for such a one, and otherwise has it made.
 *
 * Their memory comes on top of what the admission shares out, until they are handed out.
 */
export class MachinePool implements AsyncDisposable {
  readonly #make: MachineFactory;
  readonly #progress: Progress;
  readonly #shelves: readonly Shelf[];
  readonly #end = new AbortController();
  #filling: Promise<void> | undefined;
  #made = 0;

  /**
   * Begins to make machines, one at a time.
   *
   * @param make how a machine is made
   * @param kinds what shall wait
   * @param progress gets told about making them, and about failures
   */
  constructor(make: MachineFactory, kinds: readonly PoolKind[], progress: Progress) {
    this.#make = make;
    this.#progress = progress;
    this.#shelves = kinds.map((kind) => ({ ...kind, waiting: new Set<Machine>() }));
    this.#fill();
  }

  /** Machines that wait now. */
  get waiting(): number {
    return this.#shelves.reduce((sum, { waiting }) => sum + waiting.size, 0);
  }

  /** Resolves when as many wait as shall; at once when nothing is being made. */
  async filled(): Promise<void> {
    await this.#filling;
  }

  /** Makes machines out of the pool, or anew. */
  readonly factory: MachineFactory = async (request) => {
    const shelf = this.#shelves.find((shelf) => fits(shelf, request));
    const [machine] = shelf?.waiting ?? [];
    if (machine === undefined) return await this.#make(request);
    shelf!.waiting.delete(machine);
    this.#fill();
    return machine;
  };

  #fill(): void {
    this.#filling ??= this.#fillShelves().finally(() => this.#filling = undefined);
  }

  async #fillShelves(): Promise<void> {
    const { signal } = this.#end;
    for (;;) {
      const shelf = this.#shelves.find(({ waiting, count }) => waiting.size < count);
      if (shelf === undefined || signal.aborted) return;
      try {
        const { language, memory } = shelf;
        const id = `waiting-${++this.#made}`;
        const progress = this.#progress;
        const machine = await this.#make({
          id,
          language,
          memory,
          vcpus: VCPUS,
          packages: [],
          signal,
          progress,
        });
        shelf.waiting.add(machine);
        void machine.ended.then(() => this.#discard(shelf, machine));
      } catch (error) {
        if (signal.aborted) return;
        this.#progress.info(`No ${shelf.language} microVM can wait: ${messageOf(error)}`);
        await delay(RETRY, undefined, { signal }).catch(() => {}); // or closed meanwhile: the loop ends
      }
    }
  }

  /** One that ended while it waited. */
  async #discard(shelf: Shelf, machine: Machine): Promise<void> {
    if (!shelf.waiting.delete(machine)) return; // a run's by now
    await machine[Symbol.asyncDispose]();
    this.#fill();
  }

  /** Ends those that wait and those being made; what was handed out is its run's. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new CloudletError("Cannot wait: the pool was closed", { code: "cancelled" }));
    await this.#filling;
    const all = this.#shelves.flatMap(({ waiting }) => [...waiting]);
    for (const { waiting } of this.#shelves) waiting.clear();
    await Promise.all(all.map((machine) => machine[Symbol.asyncDispose]()));
  }
}

function fits(kind: PoolKind, request: MachineRequest): boolean {
  return request.language === kind.language && request.memory === kind.memory &&
    request.vcpus === VCPUS && request.packages.length === 0 && request.image === undefined &&
    request.layer === undefined && request.needs === undefined;
}
