/**
 * Work of many parts that wait for other threads: two at a time, so that one waits while the other
 * one is prepared.
 *
 * @module
 */
const LANES = 2;

/**
 * Does all parts and waits for all that began.
 *
 * @param take gives the next part; undefined when there is none
 * @param lane does what `next` gives it until there is none, or a part has failed
 * @throws what the first part that failed has thrown
 */
export async function inLanes<T>(
  take: () => T | undefined,
  lane: (next: () => T | undefined) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = [];
  const next = () => failures.length > 0 ? undefined : take();
  const lanes = Array.from(
    { length: LANES },
    () => lane(next).catch((error) => void failures.push(error)),
  );
  await Promise.all(lanes);
  if (failures.length > 0) throw failures[0];
}
