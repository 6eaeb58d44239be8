/**
 * KVM_RUN on a thread of the runtime's pool, so that a vCPU needs no JavaScript thread of its own: one
 * takes eight megabytes, a thread of the pool some kilobytes.
 *
 * An asynchronous FFI call loses two things that a vCPU's owner needs: errno, which belongs to the
 * thread, and which thread it is, to be kicked. So what is called is not ioctl(2) of the C library
 * but the few instructions below, which make the system calls themselves.
 *
 * @module
 */
import { check, libc } from "../ffi/libc.ts";
import { Mapping } from "../ffi/mapping.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE } from "../ffi/uapi/mman.ts";

/**
 * `long enter(int fd, int *tid)`: writes the thread's id to `*tid`, runs KVM_RUN, writes 0 there.
 * System V x86-64 psABI, A.2.1: a system call takes its number in rax and its arguments in rdi, rsi
 * and rdx, gives its result or `-errno` in rax, and changes no other register but rcx and r11.
 */
const ENTER = Uint8Array.of(
  ...[0x49, 0x89, 0xf0], // mov r8, rsi
  ...[0xb8, 186, 0, 0, 0], // mov eax, SYS_gettid
  ...[0x0f, 0x05], // syscall
  ...[0x41, 0x89, 0x00], // mov [r8], eax
  ...[0xbe, 0x80, 0xae, 0, 0], // mov esi, KVM_RUN
  ...[0x31, 0xd2], // xor edx, edx
  ...[0xb8, 16, 0, 0, 0], // mov eax, SYS_ioctl
  ...[0x0f, 0x05], // syscall
  ...[0x41, 0xc7, 0x00, 0, 0, 0, 0], // mov dword [r8], 0
  0xc3, // ret
);

const SIGNATURE = {
  parameters: ["i32", "pointer"],
  result: "i64",
  nonblocking: true,
} as const satisfies Deno.ForeignFunction;

const PAGE = 4096;

/**
 * Runs a vCPU until it leaves the guest.
 *
 * @param fd of the vCPU
 * @param tid shared word that says which thread runs it, 0 when none does
 * @returns what KVM_RUN returns, or `-errno`
 */
export type RunCall = (fd: number, tid: Deno.PointerValue) => Promise<bigint>;

let made: RunCall | undefined;

/** The call; the code behind it is kept for the life of the thread. */
export function runCall(): RunCall {
  if (made !== undefined) return made;
  const code = Mapping.create({
    length: PAGE,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS,
  });
  new Uint8Array(code.buffer).set(ENTER);
  // SAFETY: the mapping was made above, is never unmapped, and is not written to any more.
  const address = Deno.UnsafePointer.create(code.address)!;
  check("mprotect", libc().mprotect(address, BigInt(PAGE), PROT_READ | PROT_EXEC));
  // SAFETY: ENTER has this signature, and touches nothing but the word that it is given.
  const call = new Deno.UnsafeFnPointer(address as Deno.PointerObject<typeof SIGNATURE>, SIGNATURE);
  return made = (fd, tid) => call.call(fd, tid);
}
