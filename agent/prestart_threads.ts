/**
 * Has the runtime start threads of its pool before they are needed.
 *
 * A call that blocks, such as poll(2), runs on a thread of the runtime's pool, which starts one when
 * none is idle; the one that has just delivered its result is not idle yet. Where a host emulates the
 * kernel that takes thirty milliseconds. Threads that are idle in a snapshot are so in its clones; the
 * runtime ends them after ten seconds.
 *
 * @module
 */
import { libc } from "./libc.ts";

const THREADS = 3;
/** Long enough for the last call to begin before the first ends. */
const TOGETHER = 200; // ms

/** Settles when some threads are idle. */
export async function prestartThreads(): Promise<void> {
  const nothing = new Uint8Array(new ArrayBuffer(8));
  await Promise.all(
    Array.from({ length: THREADS }, () => libc().poll(nothing, 0n, TOGETHER)),
  );
}
