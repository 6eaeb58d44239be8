/**
 * Having what a build finds, makes and uses stay in the cache until the build has ended.
 *
 * @module
 */
import { leaseFiles } from "../base/cache/kinds.ts";
import { untilHeld } from "../base/cache/lease.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError } from "../base/errors.ts";
import { DamagedEntry, type Store } from "../base/store.ts";

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
    return await untilHeld(
      async () => {
        const found = await find();
        const lease = await store.lease(found.key, signal);
        if (lease === undefined) return undefined;
        this.#leases.use(lease);
        return found;
      },
      () =>
        new CloudletError(`Cannot use what was made in ${store.root}: it is removed each time`, {
          code: "host",
          remedy: "end whatever cleans the cache",
        }),
      (error) => error instanceof DamagedEntry, // gone between its making and its opening, or damaged
    );
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
