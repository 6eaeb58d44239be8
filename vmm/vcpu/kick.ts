/**
 * Makes a thread leave KVM_RUN: a signal whose handler does nothing.
 *
 * @module
 */
import { check, cString, libc } from "../../ffi/libc.ts";
import { i32, struct, u64 } from "../../ffi/struct.ts";
import { array } from "../../ffi/struct.ts";

/** A real-time signal that neither libc nor the runtime uses. */
const SIGNAL = 36;

/** struct sigaction of glibc on x86-64, which is not the kernel's. */
const sigaction = struct("sigaction", {
  sa_handler: u64,
  sa_mask: array(u64, 16),
  sa_flags: i32,
  sa_restorer: u64,
});

let installed = false;

/**
 * Installs the handler for the whole process, once.
 *
 * The handler is abs(3): it takes an int, touches nothing but registers, and returns, which is all
 * that a handler has to do. Without SA_RESTART, so that the system call returns EINTR.
 */
export function installKick(): void {
  if (installed) return;
  const handler = libc().dlsym(null, cString("abs")); // null is RTLD_DEFAULT
  if (handler === null) throw new TypeError("Cannot find abs in libc");
  // SAFETY: libc stays loaded, so that its function stays where it is.
  const action = sigaction.encode({ sa_handler: BigInt(Deno.UnsafePointer.value(handler)) });
  check("sigaction", libc().sigaction(SIGNAL, action, null));
  installed = true;
}

/** Interrupts the system call that a thread of this process is in, if any. */
export function kickThread(tid: number): void {
  libc().tgkill(Deno.pid, tid, SIGNAL); // a thread that is gone needs no kick
}
