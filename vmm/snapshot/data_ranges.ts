/**
 * Where a sparse file has data.
 *
 * @module
 */
import { ENXIO, SyscallError } from "../../ffi/errno.ts";
import { check, errno, libc } from "../../ffi/libc.ts";
import type { FileRange } from "../memory/guest_memory.ts";

/** Granularity of {@linkcode coarseDataOf}, in bytes. */
const CHUNK = 2 * 1024 * 1024;
/** What lies between two ranges of data at least, for {@linkcode coarseDataOf}. */
const GAP = 32 * 1024 * 1024;
const SEEK_DATA = 3n;
const SEEK_HOLE = 4n;

/** Where the next data of a file is, at the offset or behind it; undefined when there is none. */
export function nextData(fd: number, offset: number): number | undefined {
  const start = Number(libc().lseek(fd, BigInt(offset), Number(SEEK_DATA)));
  if (start >= 0) return start;
  const error = errno();
  if (error === ENXIO) return undefined;
  throw new SyscallError("lseek", error);
}

/** Where a file has data between two offsets: lseek(2) with SEEK_DATA and SEEK_HOLE. */
export function* dataOf(fd: number, start: number, end: number): Generator<FileRange> {
  for (let offset = start; offset < end;) {
    const first = nextData(fd, offset);
    if (first === undefined || first >= end) return;
    const hole = check("lseek", libc().lseek(fd, BigInt(first), Number(SEEK_HOLE)));
    yield { start: first, end: Math.min(hole, end) };
    offset = hole;
  }
}

/**
 * Where a file has data, in so few ranges that a mapping for each costs less than one of the whole:
 * KVM goes through every page of what is mapped anew.
 */
export function coarseDataOf(fd: number, size: number): FileRange[] {
  const ranges: { start: number; end: number }[] = [];
  for (let offset = 0; offset < size;) {
    const start = nextData(fd, offset);
    if (start === undefined) break;
    const chunk = Math.floor(start / CHUNK) * CHUNK;
    offset = Math.min(chunk + CHUNK, size);
    const last = ranges.at(-1);
    if (last !== undefined && chunk - last.end < GAP) last.end = offset;
    else ranges.push({ start: chunk, end: offset });
  }
  return ranges;
}
