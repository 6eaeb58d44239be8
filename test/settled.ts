/** A deadline for tests: what never settles fails there, and not after the time of a whole CI. */

/** Fails when `work` does not settle: ten seconds for what takes milliseconds. */
export async function settled<T>(work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("it does not settle")), 10_000);
  return await Promise.race([work, late.promise]).finally(() => clearTimeout(timer));
}
