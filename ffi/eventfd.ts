/**
 * eventfd(2): how threads and KVM wake each other.
 *
 * @module
 */
import { OwnedFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK } from "./uapi/mman.ts";

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);
const scratch = new Uint8Array(8);

/** Makes an eventfd that never blocks. */
export function eventFd(): OwnedFd {
  return new OwnedFd(check("eventfd", libc().eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)));
}

/** Signals it. A counter at its limit is signalled already, so nothing can fail here. */
export function signalEvent(fd: number): void {
  libc().write(fd, ONE, 8n);
}

/** Takes the signal back. */
export function clearEvent(fd: number): void {
  libc().read(fd, scratch, 8n);
}
