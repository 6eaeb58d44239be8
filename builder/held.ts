/**
 * Having what a build finds, makes and uses stay in the cache until the build has ended.
 *
 * @module
 */
import { leaseFiles } from "../base/cache/kinds.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { DamagedEntry, type Store } from "../base/store.ts";

/** Attempts to find what was removed meanwhile: somebody may clean the cache at the same time. */
const ATTEMPTS = 3;

/** Leases of one build. */
export class Held implements Disposable {
  readonly #leases = new DisposableStack();
  readonly #kinds = new Set<string>();
  readonly #cache: string;

  /** @param cache directory of the cache; cloudlet's own when absent */
  constructor(cache: string = cacheDir()) {
    this.#cache = cache;
  }

  /** What is found or made; found or made again when it is gone before it could be leased. */
  async entry<T extends { readonly key: string }>(
    store: Store,
    find: () => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      let found: T;
      try {
        found = await find();
      } catch (error) { // gone between its making and its opening, or damaged
        if (error instanceof DamagedEntry && attempt < ATTEMPTS - 1) continue;
        throw error;
      }
      const lease = await store.lease(found.key, signal);
      if (lease === undefined) continue;
      this.#leases.use(lease);
      return found;
    }
    throw new CloudletError(`Cannot use what was made in ${store.root}: it is removed each time`, {
      code: "host",
      remedy: "end whatever cleans the cache",
    });
  }

  /** All files of a kind. */
  async files(kind: "debian" | "oci", signal?: AbortSignal): Promise<void> {
    if (this.#kinds.has(kind)) return;
    this.#kinds.add(kind);
    this.#leases.use(await leaseFiles(this.#cache, kind, signal));
  }

  /** Gives all leases back. */
  [Symbol.dispose](): void {
    this.#leases.dispose();
  }
}
