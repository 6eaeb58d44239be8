/**
 * Concurrent work: its first failure ends the rest, and a limit bounds how much runs at once.
 *
 * @module
 */

/**
 * Does `work` for all items at once and waits until all of it has ended, well or not.
 *
 * @param outer ends the work early
 * @param work gets a signal that fires when the outer one does or when other work fails
 * @returns the results in the order of the items
 * @throws what the first work that failed threw
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  outer: AbortSignal | undefined,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
): Promise<Result[]> {
  const failure = new AbortController();
  const signal = outer === undefined ? failure.signal : AbortSignal.any([outer, failure.signal]);
  let first: { readonly error: unknown } | undefined;
  const results: Result[] = [];
  await Promise.all(items.map(async (item, i) => {
    try {
      results[i] = await work(item, signal);
    } catch (error) {
      first ??= { error };
      failure.abort(error);
    }
  }));
  if (first !== undefined) throw first.error;
  return results;
}

/** Returns a function that runs work, but no more than `limit` at once; the rest waits in order. */
export function limitConcurrency(
  limit: number,
): <Result>(work: () => Promise<Result>) => Promise<Result> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await work();
    } finally {
      const next = waiting.shift(); // which takes over the place
      if (next === undefined) running--;
      else next();
    }
  };
}
