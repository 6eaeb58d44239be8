/**
 * Giving up what somebody waits for, at once.
 *
 * @module
 */
/** How long an end waits for a machine that is being made to give up, in milliseconds. */
const GIVING_UP = 2000;

/** Ends a machine that may still be being made; waits for that, but not for long. */
export function endMachine(booting: Promise<AsyncDisposable>): Promise<void> {
  return settledSoon(disposeOf(booting));
}

async function disposeOf(booting: Promise<AsyncDisposable>): Promise<void> {
  const machine = await booting.catch(() => undefined);
  await machine?.[Symbol.asyncDispose]();
}

/** Waits for `work`, but not for long: what does not hear that it is given up ends by itself. */
async function settledSoon(work: Promise<void>): Promise<void> {
  const { promise: later, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, GIVING_UP);
  work.catch((error) => console.error("Cannot end a microVM:", error));
  await Promise.race([work, later]).finally(() => clearTimeout(timer));
}

/** Waits for `work` until the signal is aborted, whose reason is thrown. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort);
  return await Promise.race([work, aborted]).finally(() =>
    signal.removeEventListener("abort", abort)
  );
}
