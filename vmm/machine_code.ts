/**
 * Instructions of our own in this process: for what neither JavaScript nor a function of the C library
 * does, such as a system call on another thread that keeps its errno.
 *
 * @module
 */
import { check, libc } from "../ffi/libc.ts";
import { Mapping } from "../ffi/mapping.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE } from "../ffi/uapi/mman.ts";

const PAGE = 4096;

/**
 * Maps instructions for the life of the process. The thread that makes VMs calls it once for each
 * routine and gives the address to other threads: a mapping outlives the thread that made it, and
 * threads come and go.
 *
 * @param instructions at most a page of them, position-independent
 * @returns address of the first
 */
export function mapInstructions(instructions: Uint8Array): bigint {
  const mapping = Mapping.create({
    length: PAGE,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS,
  });
  new Uint8Array(mapping.buffer).set(instructions);
  // SAFETY: the mapping was made above, is never unmapped, and is not written to any more.
  const address = Deno.UnsafePointer.create(mapping.address);
  check("mprotect", libc().mprotect(address, BigInt(PAGE), PROT_READ | PROT_EXEC));
  return mapping.address;
}

/** Little-endian operand of four bytes. */
export function dword(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}
