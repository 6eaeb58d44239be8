/**
 * Writes the pages of a guest's RAM to a file, on a thread of the runtime's pool: looking for pages of
 * zeros, and reading what has to be read from a disk first, would keep the calling thread for as long.
 *
 * @module
 */
import { EINTR, EIO, SyscallError } from "../../ffi/errno.ts";
import { PAGE_SIZE } from "../layout.ts";
import { dword, mapInstructions } from "../machine_code.ts";

const SYS_PWRITE64 = 18; // asm/unistd_64.h

/** Goes to the next page: RAM, offset in the file, mark. */
const ADVANCE = [
  ...[0x49, 0x81, 0xc4, ...dword(PAGE_SIZE)], // add r12, PAGE_SIZE
  ...[0x49, 0x81, 0xc7, ...dword(PAGE_SIZE)], // add r15, PAGE_SIZE
  ...[0x49, 0xff, 0xc5], // inc r13
];

/**
 * `long write_pages(int fd, const char *ram, const uint8_t *marks, size_t pages, off_t offset)`:
 * writes each page that is marked and not all zeros to where it belongs in the file, as many at once
 * as follow each other. Gives the bytes written, or `-errno`.
 *
 * System V x86-64 psABI, 3.2.1: rbx, rbp and r12 to r15 belong to the caller; a system call changes no
 * other register than rax, rcx and r11. In between:
 *
 * ```text
 * ebx fd    r12 page in RAM    r13 its mark    r14 end of the marks    r15 its offset    rbp written
 * rsi first page of those that follow each other    r10 its offset
 * ```
 */
const WRITE_PAGES = Uint8Array.of(
  ...[0x53, 0x55], // push rbx; push rbp
  ...[0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57], // push r12 .. r15
  ...[0x89, 0xfb], // mov ebx, edi
  ...[0x49, 0x89, 0xf4], // mov r12, rsi
  ...[0x49, 0x89, 0xd5], // mov r13, rdx
  ...[0x4c, 0x8d, 0x34, 0x0a], // lea r14, [rdx + rcx]
  ...[0x4d, 0x89, 0xc7], // mov r15, r8
  ...[0x31, 0xed], // xor ebp, ebp
  // next:
  ...[0x4d, 0x39, 0xf5], // cmp r13, r14
  ...[0x73, 0x7d], // jae done
  ...[0x4c, 0x89, 0xe6], // mov rsi, r12
  ...[0x4d, 0x89, 0xfa], // mov r10, r15
  // look: whether this page is to be written, too
  ...[0x41, 0x80, 0x7d, 0x00, 0x00], // cmp byte [r13], 0
  ...[0x74, 0x25], // je enough
  ...[0x4c, 0x89, 0xe7], // mov rdi, r12
  ...[0xb9, ...dword(PAGE_SIZE / 8)], // mov ecx, PAGE_SIZE / 8
  ...[0x31, 0xc0], // xor eax, eax
  ...[0xf3, 0x48, 0xaf], // repe scasq
  ...[0x74, 0x16], // je enough
  ...ADVANCE,
  ...[0x4d, 0x39, 0xf5], // cmp r13, r14
  ...[0x72, 0xd4], // jb look
  // enough:
  ...[0x4c, 0x89, 0xe2], // mov rdx, r12
  ...[0x48, 0x29, 0xf2], // sub rdx, rsi
  ...[0x74, 0x24], // je skip
  // write: rdx bytes at rsi to r10
  ...[0x89, 0xdf], // mov edi, ebx
  ...[0xb8, ...dword(SYS_PWRITE64), 0x0f, 0x05], // mov eax, SYS_PWRITE64; syscall
  ...[0x48, 0x83, 0xf8, -EINTR & 0xff], // cmp rax, -EINTR
  ...[0x74, 0xf1], // je write
  ...[0x48, 0x85, 0xc0], // test rax, rax
  ...[0x7e, 0x23], // jle fail
  ...[0x48, 0x01, 0xc5], // add rbp, rax
  ...[0x48, 0x01, 0xc6], // add rsi, rax
  ...[0x49, 0x01, 0xc2], // add r10, rax
  ...[0x48, 0x29, 0xc2], // sub rdx, rax
  ...[0x75, 0xde], // jne write
  ...[0xeb, 0x9d], // jmp next
  // skip:
  ...ADVANCE,
  ...[0xeb, 0x8a], // jmp next
  // fail: with -errno, or with 0, which no file gives to a write of more
  ...[0x48, 0x89, 0xc5], // mov rbp, rax
  ...[0x75, 0x07], // jne done
  ...[0x48, 0xc7, 0xc5, ...dword(-EIO)], // mov rbp, -EIO
  // done:
  ...[0x48, 0x89, 0xe8], // mov rax, rbp
  ...[0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c], // pop r15 .. r12
  ...[0x5d, 0x5b, 0xc3], // pop rbp; pop rbx; ret
);

const SIGNATURE = {
  parameters: ["i32", "usize", "pointer", "usize", "i64"],
  result: "i64",
  nonblocking: true,
} as const satisfies Deno.ForeignFunction;

type Call = Deno.UnsafeFnPointer<typeof SIGNATURE>;
let call: Call | undefined;

/**
 * Writes those pages that are marked and hold something else than zeros; between them the file stays
 * as it is.
 *
 * @param fd of the file, open until this settles
 * @param address of the first page in this process, all of which stay mapped until this settles
 * @param marks one for each page, not 0 for those that count
 * @param offset in the file of the first page
 * @returns how many bytes were written
 * @throws {SyscallError} of pwrite(2)
 */
export async function writePages(
  fd: number,
  address: bigint,
  marks: Uint8Array<ArrayBuffer>,
  offset: number,
): Promise<number> {
  if (call === undefined) {
    // SAFETY: WRITE_PAGES is there and has this signature.
    const code = Deno.UnsafePointer.create(mapInstructions(WRITE_PAGES)) as Deno.PointerObject<
      typeof SIGNATURE
    >;
    call = new Deno.UnsafeFnPointer(code, SIGNATURE);
  }
  // SAFETY: the marks are kept by this function until the call has returned.
  const pointer = Deno.UnsafePointer.of(marks);
  const count = BigInt(marks.length);
  const result = Number(await call.call(fd, address, pointer, count, BigInt(offset)));
  if (result < 0) throw new SyscallError("pwrite", -result);
  return result;
}
