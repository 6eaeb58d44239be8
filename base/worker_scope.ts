/**
 * The global scope of a dedicated worker's module.
 *
 * `/// <reference lib="deno.worker" />` would tell its type too, but the registry refuses modules
 * that change what is global.
 *
 * @module
 */

/** What a worker's module needs of its global scope. */
export interface WorkerScope<Received, Sent> {
  /** Takes what the thread that started this one sends. */
  onmessage: ((event: MessageEvent<Received>) => unknown) | null;
  /** Answers it. */
  postMessage(message: Sent): void;
  /** Ends this thread. */
  close(): void;
}

/** The global scope, for a module that runs in a worker. */
export function workerScope<Received, Sent>(): WorkerScope<Received, Sent> {
  return globalThis as unknown as WorkerScope<Received, Sent>;
}
