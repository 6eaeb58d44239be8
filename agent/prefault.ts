/**
 * Maps the code of a process before it runs it.
 *
 * A page that is touched for the first time costs a fault, which takes two milliseconds where a host
 * emulates the kernel; what is mapped in a snapshot costs nothing in its clones. cloudlet's kernel
 * lets one process do that for another (builder/kernel/patches); others refuse, and there a fault
 * is cheap.
 *
 * @module
 */
import { libc, SYS_PROCESS_MADVISE } from "./libc.ts";

const MADV_POPULATE_READ = 22n; // include/uapi/asm-generic/mman-common.h
/** Larger mappings are of programs that touch little of them, or are mapped 2 MiB at a time. */
const MAX_LENGTH = 16 << 20;
/** proc(5), /proc/pid/maps: address range, permissions, offset, device, inode, path. */
const CODE = /^([0-9a-f]+)-([0-9a-f]+) r-.p \S+ \S+ [1-9]/;

/** Maps what a process has of its program's and libraries' files, apart from what it may write. */
export function prefaultCode(pid: number, pidfd: number): void {
  const ranges: bigint[] = [];
  for (const line of Deno.readTextFileSync(`/proc/${pid}/maps`).split("\n")) {
    const [, start, end] = CODE.exec(line) ?? [];
    if (start === undefined) continue;
    const length = BigInt(`0x${end}`) - BigInt(`0x${start}`);
    if (length <= MAX_LENGTH) ranges.push(BigInt(`0x${start}`), length);
  }
  // struct iovec { void *iov_base; size_t iov_len; }; one at a time: the first that fails ends a call.
  for (let i = 0; i < ranges.length; i += 2) {
    const iovec = new Uint8Array(BigUint64Array.from(ranges.slice(i, i + 2)).buffer);
    // Whether it could is of no interest: what is not mapped now is so when it is touched.
    libc().process_madvise(
      BigInt(SYS_PROCESS_MADVISE),
      BigInt(pidfd),
      iovec,
      1n,
      MADV_POPULATE_READ,
      0n,
    );
  }
}
