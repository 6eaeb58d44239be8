/**
 * A few workers that decompress files side by side, since the xz decoder keeps a core busy.
 *
 * @module
 */
import { dirname } from "node:path";
import { hostResources } from "../../base/control_group.ts";
import { CloudletError } from "../../base/errors.ts";
import { diskError, temporaryIn } from "../../base/files.ts";
import type { SharedCount } from "../limits.ts";
import type { DecompressAnswer, DecompressJob } from "./decompress_worker.ts";

/** What to decompress. */
export interface DecompressRequest {
  /** Path of the compressed file. */
  readonly source: string;
  /** Where the compressed bytes start; 0 when absent. */
  readonly offset?: number;
  /** How many there are. */
  readonly size: number;
  /** For error messages. */
  readonly name: string;
  /** Most bytes that may come out. Unlimited when absent. */
  readonly limit?: number;
  /** What comes out is added to it; beyond its limit the work ends. */
  readonly count?: SharedCount | undefined;
  /** Whether the result must outlive a power cut; true when absent. */
  readonly durable?: boolean;
}

interface Waiting {
  readonly job: DecompressJob;
  readonly resolve: (size: number) => void;
  readonly reject: (error: unknown) => void;
}

const MAX_WORKERS = 4; // each holds a dictionary of up to 64 MiB

/** Workers that start when there is work for them, and end when the pool is disposed. */
export class DecompressPool implements Disposable {
  readonly #size: number;
  readonly #idle: Worker[] = [];
  readonly #busy = new Map<Worker, Waiting>();
  readonly #queue: Waiting[] = [];
  #nextId = 0;
  #disposed = false;

  /** @param size most workers; as many as there are processors, up to four, when absent */
  constructor(size: number = Math.min(hostResources().processors, MAX_WORKERS)) {
    this.#size = size;
  }

  /**
   * Decompresses into `goal`, which appears only when it is complete.
   *
   * @returns length of the result in bytes
   * @throws {CloudletError} `untrusted` for damaged input, `host` when the disk is full,
   *   `cancelled` when the signal fires or the pool is disposed
   */
  async decompress(
    request: DecompressRequest,
    goal: string,
    signal?: AbortSignal,
  ): Promise<number> {
    using temporary = temporaryIn(dirname(goal));
    const size = await this.#run({
      id: this.#nextId++,
      source: request.source,
      offset: request.offset ?? 0,
      size: request.size,
      goal: temporary.path,
      name: request.name,
      limit: request.limit ?? null,
      count: request.count ?? null,
      durable: request.durable ?? true,
    }, signal);
    try {
      await Deno.rename(temporary.path, goal);
    } catch (cause) {
      throw diskError(`Cannot write ${goal}`, cause);
    }
    return size;
  }

  #run(job: DecompressJob, signal: AbortSignal | undefined): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const waiting: Waiting = { job, resolve, reject };
    const cancel = () => {
      const queued = this.#queue.indexOf(waiting);
      if (queued >= 0) this.#queue.splice(queued, 1);
      for (const [worker, current] of this.#busy) {
        if (current !== waiting) continue;
        worker.terminate(); // a decoder cannot be interrupted in any other way
        this.#busy.delete(worker);
      }
      reject(cancelled(job.name, signal?.reason));
      this.#next();
    };
    if (this.#disposed || signal?.aborted) {
      cancel();
      return promise;
    }
    signal?.addEventListener("abort", cancel, { once: true });
    this.#queue.push(waiting);
    this.#next();
    return promise.finally(() => signal?.removeEventListener("abort", cancel));
  }

  #next(): void {
    while (this.#queue.length > 0 && !this.#disposed) {
      let worker = this.#idle.pop();
      if (worker === undefined) {
        if (this.#busy.size >= this.#size) return;
        worker = this.#start();
      }
      const waiting = this.#queue.shift()!;
      this.#busy.set(worker, waiting);
      worker.postMessage(waiting.job);
    }
  }

  #start(): Worker {
    const worker = new Worker(new URL("./decompress_worker.ts", import.meta.url), {
      type: "module",
      name: "decompress",
    });
    worker.onmessage = ({ data }: MessageEvent<DecompressAnswer>) => {
      const waiting = this.#busy.get(worker);
      if (waiting === undefined || waiting.job.id !== data.id) return;
      this.#busy.delete(worker);
      this.#idle.push(worker);
      if (data.type === "done") {
        waiting.resolve(data.size);
      } else {
        const { message, code, remedy } = data;
        waiting.reject(
          new CloudletError(message, { code, ...(remedy === undefined ? {} : { remedy }) }),
        );
      }
      this.#next();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const waiting = this.#busy.get(worker);
      this.#busy.delete(worker);
      worker.terminate();
      waiting?.reject(
        new CloudletError(`Cannot decompress ${waiting.job.name}: ${event.message}`, {
          code: "internal",
        }),
      );
      this.#next();
    };
    return worker;
  }

  /** Ends the workers; work under way is rejected. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const worker of this.#idle.splice(0)) worker.terminate();
    for (const waiting of this.#queue.splice(0)) waiting.reject(cancelled(waiting.job.name));
    for (const [worker, waiting] of this.#busy) {
      worker.terminate();
      waiting.reject(cancelled(waiting.job.name));
    }
    this.#busy.clear();
  }
}

function cancelled(name: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot decompress ${name}: it was cancelled`, {
    code: "cancelled",
    cause,
  });
}
