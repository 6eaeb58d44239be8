/**
 * Threads that serve several VMs each: a JavaScript thread takes eight megabytes and 25 ms to start.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";

/** A place in a thread. */
export interface Tenancy extends Disposable {
  /** Settles when the thread has loaded its module. */
  readonly loaded: Promise<void>;
  /** Sends the thread a message, once it is loaded. */
  post(message: unknown, transfer?: Transferable[]): void;
}

/** How a thread is talked to. */
export interface Line {
  /** Sends it a message. */
  post(message: unknown, transfer: Transferable[]): void;
  /** Ends it; it has no tenant. */
  end(): void;
}

/**
 * Opens the line to a new thread.
 *
 * @param worker the thread, which has not loaded its module yet
 * @returns takes the message with which the thread says that it is loaded, and gives the line
 */
export type OpenLine = (worker: Worker) => (loaded: unknown) => Line;

class SharedWorker {
  readonly line: Promise<Line>;
  /** Told when the thread breaks. */
  readonly tenants = new Set<(why: string) => void>();

  constructor(module: URL, open: OpenLine) {
    const { promise, resolve, reject } = Promise.withResolvers<Line>();
    this.line = promise;
    promise.catch(() => {}); // who waits gets it
    const worker = new Worker(module, { type: "module" });
    const loaded = open(worker);
    worker.onmessage = ({ data }) => resolve(loaded(data));
    worker.onerror = (event) => {
      event.preventDefault();
      const why = `a thread broke: ${event.message}`;
      reject(new CloudletError(`Cannot make the VM: ${why}`, { code: "internal" }));
      for (const tell of [...this.tenants]) tell(why);
    };
  }
}

/** Threads of one module, as many as there are tenants for. */
export class SharedWorkers {
  readonly #module: URL;
  readonly #capacity: number;
  readonly #open: OpenLine;
  readonly #workers = new Set<SharedWorker>();

  /**
   * @param module sends one message, when it is loaded
   * @param capacity most tenants of a thread
   * @param open how its threads are talked to
   */
  constructor(module: URL, capacity: number, open: OpenLine) {
    this.#module = module;
    this.#capacity = capacity;
    this.#open = open;
  }

  /**
   * Takes a place, in a new thread when there is none. The thread ends with its last tenant.
   *
   * @param broken called with the reason when the thread ends by an error
   */
  enter(broken: (why: string) => void): Tenancy {
    let shared = [...this.#workers].find(({ tenants }) => tenants.size < this.#capacity);
    if (shared === undefined) {
      this.#workers.add(shared = new SharedWorker(this.#module, this.#open));
    }
    const { line, tenants } = shared;
    const tenant = (why: string) => {
      this.#workers.delete(shared); // nobody else is put there
      broken(why);
    };
    tenants.add(tenant);
    return {
      loaded: line.then(() => {}),
      post(message, transfer = []) {
        line.then((line) => line.post(message, transfer), () => {}); // broken: the tenant was told
      },
      [Symbol.dispose]: () => {
        if (!tenants.delete(tenant) || tenants.size > 0) return;
        this.#workers.delete(shared);
        line.then((line) => line.end(), () => {});
      },
    };
  }
}
