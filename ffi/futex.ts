/**
 * Sleeping on a word of memory, and waking who sleeps there: futex(2), within one process.
 *
 * `Atomics.wait` has words of its own: only JavaScript can wake it, and be woken.
 *
 * @module
 */
import { libc } from "./libc.ts";

/** Number of the system call: asm/unistd_64.h. */
export const SYS_FUTEX = 202;
const FUTEX_PRIVATE_FLAG = 128; // linux/futex.h
const FUTEX_WAKE_PRIVATE = 1 | FUTEX_PRIVATE_FLAG;
/** The operation of {@linkcode futexWait}. */
export const FUTEX_WAIT_PRIVATE = 0 | FUTEX_PRIVATE_FLAG;
const EVERYBODY = 0x7fff_ffff;

/**
 * Blocks this thread while the word has the value, until it is woken; it may also return for nothing.
 *
 * @param word of 32 bits, which must stay where it is meanwhile
 */
export function futexWait(word: Deno.PointerObject, value: number): void {
  libc().futex(BigInt(SYS_FUTEX), word, FUTEX_WAIT_PRIVATE, value, null);
}

/** Wakes all who sleep on the word. */
export function futexWake(word: Deno.PointerObject): void {
  libc().futex(BigInt(SYS_FUTEX), word, FUTEX_WAKE_PRIVATE, EVERYBODY, null);
}
