/**
 * The node in this process: admission, the pool and what makes machines, behind the interface that
 * the service sees.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { MissingFile } from "../workload/dependencies/missing.ts";
import { withBuilder } from "../builder/artifacts.ts";
import { dependencyStore } from "../builder/layers.ts";
import { partsKey } from "./boot_parts.ts";
import { Admission, type AdmissionLimits, type Lease } from "./admission.ts";
import type { Clock } from "./clock.ts";
import { LocalMachine } from "./local_machine.ts";
import type { HostMachine, HostMachineFactory } from "./host_machine.ts";
import type {
  CallOptions,
  Capacity,
  CreateEvent,
  Machine,
  MachineImage,
  MachineRequest,
  Node,
} from "./node.ts";
import { type PausedLimits, Pool, type PrewarmedKind, type Waiting } from "./pool.ts";
import { eventProgress, progressQueue } from "./progress_events.ts";

/** Prewarmed VMs that shall wait. */
export interface Prewarming {
  /** For messages; the language's when absent. */
  readonly name?: string;
  /** Name of the language that they are for. */
  readonly language: string;
  /** Their root file system; the language's own when absent. */
  readonly image?: MachineImage | undefined;
  /** How many wait. */
  readonly count: number;
  /** Memory of each in MiB. */
  readonly memory: number;
}

/** The pool of a node: machines, and clones of whatever makes them. */
export type NodePool<C extends Waiting> = Pool<HostMachine, C>;

/** What a node is made of. */
export interface LocalNodeOptions<C extends Waiting> {
  /** Makes machines; may take paused clones out of the pool, which is there when it is called. */
  readonly machines: (pool: () => NodePool<C>) => HostMachineFactory;
  /** How much may be in use at a time. */
  readonly admission: AdmissionLimits;
  /** The prewarmed VMs that wait; none when absent. */
  readonly prewarmed?: readonly Prewarming[];
  /** How many paused clones wait; none when absent. */
  readonly paused?: PausedLimits;
  /** Hears of making what waits. */
  readonly progress: Progress;
  /** Tells the time; the system's when absent. */
  readonly clock?: Clock;
}

/** What prewarmed VMs have. */
const VCPUS = 1;

interface Kind extends PrewarmedKind<HostMachine> {
  readonly language: string;
  /** What it boots from. */
  readonly parts: string;
}

/** A machine that is being made for a request. */
type Make = (signal: AbortSignal, progress: Progress) => Promise<HostMachine>;

/** What {@linkcode LocalNode} asks of its own parts to hand out a machine. */
interface Order {
  readonly id: string;
  readonly memory: number;
  readonly make: Make;
  /** Whether a prewarmed VM would do. */
  readonly fits: (kind: Kind) => boolean;
}

/** See the module. */
export class LocalNode<C extends Waiting = never> implements Node {
  readonly #admission: Admission;
  readonly #pool: NodePool<C>;
  readonly #make: HostMachineFactory;
  readonly #machines = new Set<LocalMachine>();
  /** What is being made, for a caller or for none any more. */
  readonly #making = new Set<Promise<unknown>>();
  readonly #end = new AbortController();
  readonly #progress: Progress;
  #prewarmed = 0;

  /** Begins to make what shall wait. */
  constructor(options: LocalNodeOptions<C>) {
    const { prewarmed = [], paused = { each: 0, total: 0 }, progress, clock } = options;
    this.#progress = progress;
    this.#admission = new Admission(options.admission);
    this.#make = options.machines(() => this.#pool);
    this.#pool = new Pool<HostMachine, C>({
      admission: this.#admission,
      prewarmed: prewarmed.map((kind) => this.#kindOf(kind, progress)),
      paused,
      progress,
      ...(clock && { clock }),
    });
  }

  #kindOf({ name, language, image, count, memory }: Prewarming, progress: Progress): Kind {
    return {
      name: name ?? language,
      language,
      parts: partsKey({ language, vcpus: VCPUS, packages: [], image }),
      count,
      memory,
      make: (signal) =>
        this.#make({
          id: `waiting-${++this.#prewarmed}`,
          language,
          memory,
          vcpus: VCPUS,
          packages: [],
          image,
          signal,
          progress,
        }),
    };
  }

  get capacity(): Capacity {
    const { limits, machines, memory, idle, queued } = this.#admission;
    return { limits, machines, memory, idle, queued };
  }

  /** Its pool; for tests. */
  get pool(): NodePool<C> {
    return this.#pool;
  }

  create(request: MachineRequest, options: CallOptions = {}): AsyncIterable<CreateEvent> {
    return this.#provide({
      id: request.id,
      memory: request.memory,
      make: (signal, progress) => this.#make({ ...request, signal, progress }),
      fits: (kind) => fits(kind, request),
    }, options);
  }

  async hasDependencies(key: string): Promise<boolean> {
    return await dependencyStore().get(key) !== undefined;
  }

  async packagesWith(
    image: string,
    files: readonly MissingFile[],
    { signal }: CallOptions = {},
  ): Promise<ReadonlyMap<string, string>> {
    const ends = AbortSignal.any([this.#end.signal, ...(signal ? [signal] : [])]);
    return await withBuilder(
      { progress: this.#progress, signal: ends },
      (builder) => builder.packagesWith(image, files),
    );
  }

  /** Streams what happens until there is a machine. */
  async *#provide(order: Order, { signal }: CallOptions): AsyncGenerator<CreateEvent> {
    const abandoned = new AbortController();
    const ends = AbortSignal.any([abandoned.signal, this.#end.signal, ...(signal ? [signal] : [])]);
    ends.throwIfAborted();
    const events = progressQueue<CreateEvent>();
    const making = this.#order(order, ends, (event) => events.push(event));
    this.#track(making);
    let handed = false;
    // A caller that gave up may never take the next event.
    ends.addEventListener("abort", () => {
      if (!handed) void making.then((machine) => machine.end(), () => {});
    });
    try {
      const machine = yield* events.during(making);
      ends.throwIfAborted();
      handed = true;
      yield { kind: "machine", machine };
    } finally {
      if (!handed) {
        abandoned.abort(
          new CloudletError("Cannot make the machine: the caller gave up", {
            code: "cancelled",
          }),
        );
        await making.then((machine) => machine.end(), () => {});
      }
    }
  }

  /** A machine with its place; nothing is left of either when this fails. */
  async #order(
    { id, memory, make, fits }: Order,
    signal: AbortSignal,
    emit: (event: CreateEvent) => void,
  ): Promise<Machine> {
    const prewarmed = this.#pool.takePrewarmed((kind) => fits(kind as Kind));
    if (prewarmed !== undefined) {
      emit({ kind: "admitted" });
      return this.#machine(id, memory, prewarmed.machine, prewarmed.lease);
    }
    const lease = await this.#admission.acquire(memory, signal);
    try {
      emit({ kind: "admitted" });
      const machine = await make(signal, eventProgress(emit));
      return this.#machine(id, memory, machine, lease);
    } catch (error) {
      lease[Symbol.dispose]();
      throw error;
    }
  }

  #machine(id: string, memory: number, host: HostMachine, lease: Lease): LocalMachine {
    const machine: LocalMachine = new LocalMachine(id, host, {
      fork: (request, make, options) =>
        this.#provide({ id: request.id, memory, make, fits: () => false }, options),
      ended: () => {
        lease[Symbol.dispose]();
        this.#machines.delete(machine);
      },
    });
    this.#machines.add(machine);
    return machine;
  }

  #track(work: Promise<unknown>): void {
    const settled: Promise<unknown> = work.catch(() => {})
      .then(() => this.#making.delete(settled));
    this.#making.add(settled);
  }

  /** Ends all machines, what waits and what is being made. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(
      new CloudletError("Cannot make the machine: the node was closed", {
        code: "unavailable",
      }),
    );
    await this.#pool[Symbol.asyncDispose]();
    while (this.#making.size > 0) await Promise.all(this.#making);
    await Promise.all([...this.#machines].map((machine) => machine.end()));
  }
}

function fits(kind: Kind, request: MachineRequest): boolean {
  return request.language === kind.language && request.memory === kind.memory &&
    request.vcpus === VCPUS && request.layer === undefined && request.needs === undefined &&
    request.idle !== false &&
    partsKey(request) === kind.parts;
}
