/**
 * Names of entries in a store, as git's refs are names of commits: which finished entry a name means
 * now, so that a second use of `python` or of the kernel needs neither the mirror nor the dependency
 * resolver.
 *
 * @module
 */
import { join } from "node:path";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { cacheKey, type KeyPart, type Store } from "../base/store.ts";

function refPath(store: Store, name: string, inputs: KeyPart): string {
  return join(store.root, `.name-${name}-${cacheKey(inputs)}`);
}

/**
 * Key of the entry that `name` last led to with the same inputs, or undefined when there is none
 * or the entry is gone.
 *
 * @param inputs everything but the archive's state that decides what is built
 */
export async function readRef(
  store: Store,
  name: string,
  inputs: KeyPart,
): Promise<string | undefined> {
  const key = (await readTextIfAny(refPath(store, name, inputs)))?.trim();
  if (key === undefined) return undefined;
  // the file is the user's own, but a damaged one must not lead out of the store
  return /^[0-9a-f]{32}$/.test(key) && await store.get(key) !== undefined ? key : undefined;
}

/** Makes `name` with these inputs mean the entry `key`. */
export async function writeRef(
  store: Store,
  name: string,
  inputs: KeyPart,
  key: string,
): Promise<void> {
  await writeFileAtomic(refPath(store, name, inputs), `${key}\n`);
}
