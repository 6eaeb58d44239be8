/**
 * The memory file of a snapshot: the guest's RAM as it is, with a hole for every page of zeros.
 *
 * It is mapped on restore, not read, so that its digest cannot be computed each time. The choice:
 * when it is saved, a SHA-256 of each 2 MiB is kept, and what identifies the file as it was left:
 * device, inode, size, and the times of its last change to content (mtime) and inode (ctime) in
 * nanoseconds. On restore one statx(2) compares them. Whoever writes to the file, truncates it or
 * puts another one in its place changes the inode or the ctime, which no one can set; then all
 * digests are checked, so that a faithful copy of a cache still works and a damaged one is refused.
 * Against a disk that gives back other bytes than were written, only
 * {@linkcode verifyMemory} helps, which `cloudlet snapshot verify` calls.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { writeAllSync } from "../../base/files.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { HostMemory } from "../../ffi/host_memory.ts";
import { check, errno, libc } from "../../ffi/libc.ts";
import { Mapping } from "../../ffi/mapping.ts";
import { MAP_SHARED, O_CLOEXEC, O_RDONLY, PROT_READ } from "../../ffi/uapi/mman.ts";
import { ENXIO, SyscallError } from "../../ffi/errno.ts";
import { PAGE_SIZE } from "../layout.ts";
import type { FileRange, GuestMemory } from "../memory.ts";
import { refuse, unreadable } from "./format.ts";

const CHUNK = 2 * 1024 * 1024;
const DIGEST = 32;
/** What lies between two ranges of data at least, for {@linkcode coarseDataOf}. */
const GAP = 32 * 1024 * 1024;
const SEEK_DATA = 3n;
const SEEK_HOLE = 4n;
/** Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped. */
const PAGEMAP_ENTRY = 8;
const PAGEMAP_THERE = 0xc000_0000;

/** What tells a file from another one, and from itself after a change. */
export interface FileIdentity {
  readonly device: string;
  readonly inode: string;
  readonly size: number;
  readonly mtime: string;
  readonly ctime: string;
}

const AT_EMPTY_PATH = 0x1000;
const STATX_BASIC_STATS = 0x7ff;

/** The identity of an open file: statx(2). */
export function identityOf(fd: number): FileIdentity {
  const buffer = new Uint8Array(256);
  check("statx", libc().statx(fd, new Uint8Array(1), AT_EMPTY_PATH, STATX_BASIC_STATS, buffer));
  const view = new DataView(buffer.buffer);
  const time = (at: number) => `${view.getBigInt64(at, true)}.${view.getUint32(at + 8, true)}`;
  return {
    device: `${view.getUint32(136, true)}:${view.getUint32(140, true)}`,
    inode: String(view.getBigUint64(32, true)),
    size: Number(view.getBigUint64(40, true)),
    ctime: time(96),
    mtime: time(112),
  };
}

/** Where the next data of a file is, at the offset or behind it; undefined when there is none. */
function nextData(fd: number, offset: number): number | undefined {
  const start = Number(libc().lseek(fd, BigInt(offset), Number(SEEK_DATA)));
  if (start >= 0) return start;
  const error = errno();
  if (error === ENXIO) return undefined;
  throw new SyscallError("lseek", error);
}

/** Where a file has data: lseek(2) with SEEK_DATA and SEEK_HOLE. */
function* dataOf(fd: number, size: number): Generator<FileRange> {
  for (let offset = 0; offset < size;) {
    const start = nextData(fd, offset);
    if (start === undefined) return;
    const end = check("lseek", libc().lseek(fd, BigInt(start), Number(SEEK_HOLE)));
    yield { start, end: Math.min(end, size) };
    offset = end;
  }
}

/**
 * Where a file has data, in so few ranges that a mapping for each costs less than one of the whole:
 * KVM goes through every page of what is mapped anew.
 */
function coarseDataOf(fd: number, size: number): FileRange[] {
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

/** Which pages of RAM may hold something else than zeros. */
function touchedPages(memory: GuestMemory, base: number | undefined): Uint8Array {
  const { address, length: size } = memory.ram;
  const pages = size / PAGE_SIZE;
  const touched = new Uint8Array(pages);
  const map = new Uint8Array(pages * PAGEMAP_ENTRY);
  using file = OwnedFd.open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  for (let done = 0; done < map.length;) {
    const at = address / BigInt(PAGE_SIZE) * BigInt(PAGEMAP_ENTRY) + BigInt(done);
    const part = map.subarray(done);
    const got = check("pread", libc().pread(file.fd, part, BigInt(part.length), at));
    if (got === 0) throw new RangeError("Cannot read /proc/self/pagemap: it ends early");
    done += got;
  }
  const view = new DataView(map.buffer);
  for (let page = 0; page < pages; page++) {
    const high = view.getUint32(page * PAGEMAP_ENTRY + 4, true);
    if ((high & PAGEMAP_THERE) !== 0) touched[page] = 1;
  }
  if (base !== undefined) {
    for (const { start, end } of dataOf(base, size)) {
      touched.fill(1, Math.floor(start / PAGE_SIZE), Math.ceil(end / PAGE_SIZE));
    }
  }
  return touched;
}

/** The ranges of bytes whose pages are marked and hold something else than zeros. */
function* runs(
  pages: Uint8Array,
  bytes: Uint8Array<ArrayBuffer>,
): Iterable<{ readonly start: number; readonly end: number }> {
  const words = new Int32Array(bytes.buffer);
  const wordsPerPage = PAGE_SIZE / 4;
  const counts = (page: number): boolean => {
    if (pages[page] !== 1) return false;
    const end = (page + 1) * wordsPerPage;
    for (let i = page * wordsPerPage; i < end; i++) if (words[i] !== 0) return true;
    return false;
  };
  for (let page = 0; page < pages.length;) {
    const start = page++;
    if (!counts(start)) continue;
    while (page < pages.length && counts(page)) page++;
    yield { start: start * PAGE_SIZE, end: page * PAGE_SIZE };
  }
}

/** What {@linkcode writeMemory} did. */
export interface WrittenMemory {
  readonly identity: FileIdentity;
  /** SHA-256 of each 2 MiB; zeros for one without data, and where nobody will need the file later. */
  readonly digests: Uint8Array<ArrayBuffer>;
  /** Bytes that are not holes. */
  readonly data: number;
}

/**
 * Writes RAM to a new file. The guest is paused.
 *
 * @param memory of the guest
 * @param path must not exist
 * @param options the file that RAM was mapped from, if it was; whether anybody will
 *   need it later; what to call when RAM was read
 */
export async function writeMemory(
  memory: GuestMemory,
  path: string,
  { base, durable, copied }: {
    readonly base: number | undefined;
    readonly durable: boolean;
    readonly copied: () => void;
  },
): Promise<WrittenMemory> {
  const { ram } = memory;
  const size = ram.length;
  const touched = touchedPages(memory, base);
  const digests = new Uint8Array(Math.ceil(size / CHUNK) * DIGEST);
  let data = 0;
  using file = await Deno.open(path, { createNew: true, write: true, read: true, mode: 0o600 });
  await file.truncate(size);
  for (let start = 0; start < size; start += CHUNK) {
    const end = Math.min(start + CHUNK, size);
    const pages = touched.subarray(start / PAGE_SIZE, end / PAGE_SIZE);
    if (!pages.includes(1)) continue;
    const bytes = ram.window(start, end - start);
    for (const run of runs(pages, bytes)) {
      data += run.end - run.start;
      file.seekSync(start + run.start, Deno.SeekMode.Start);
      writeAllSync(file, bytes.subarray(run.start, run.end));
    }
    ram.release(bytes);
  }
  copied();
  using opened = OwnedFd.open(path, O_RDONLY | O_CLOEXEC);
  if (durable) {
    await file.sync();
    digestChunks(opened.fd, size, (chunk, digest) => digests.set(digest, chunk * DIGEST));
  }
  return { identity: identityOf(opened.fd), digests, data };
}

/** Calls `found` with the SHA-256 of each chunk that has data. */
function digestChunks(
  fd: number,
  size: number,
  found: (chunk: number, digest: Uint8Array) => void,
): void {
  using mapping = Mapping.create({ length: size, prot: PROT_READ, flags: MAP_SHARED, fd });
  using memory = new HostMemory(mapping.address, size);
  let last = -1;
  for (const { start: first, end } of dataOf(fd, size)) {
    for (let chunk = Math.floor(first / CHUNK); chunk * CHUNK < end; chunk++) {
      if (chunk === last) continue;
      last = chunk;
      const start = chunk * CHUNK;
      const bytes = memory.window(start, Math.min(CHUNK, size - start));
      found(chunk, createHash("sha256").update(bytes).digest());
      memory.release(bytes);
    }
  }
}

/**
 * Reads all of a memory file and compares its digests.
 *
 * @throws {CloudletError} `untrusted` when a byte is another one
 */
export function verifyMemory(fd: number, size: number, digests: Uint8Array): void {
  const seen = new Uint8Array(digests.length);
  digestChunks(fd, size, (chunk, digest) => seen.set(digest, chunk * DIGEST));
  if (!seen.every((byte, i) => byte === digests[i])) {
    throw refuse("the checksum of its memory file is wrong");
  }
}

/** An open memory file. */
export class MemoryFile implements Disposable {
  readonly #owned: OwnedFd;
  /** Where it has data, more or less; elsewhere it has zeros. */
  readonly data: readonly FileRange[];

  /** Takes the descriptor over; the file has `size` bytes. */
  constructor(owned: OwnedFd, size: number) {
    this.#owned = owned;
    this.data = coarseDataOf(owned.fd, size);
  }

  /** The descriptor. */
  get fd(): number {
    return this.#owned.fd;
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }
}

/**
 * Opens a memory file and makes sure that it is the one that was saved.
 *
 * @param path of the file
 * @param expected as {@linkcode writeMemory} gave it
 * @param digests as {@linkcode writeMemory} gave them
 * @param whole check every byte, even when nothing says that the file was changed
 */
export function openMemory(
  path: string,
  expected: FileIdentity,
  digests: Uint8Array,
  whole = false,
): MemoryFile {
  using stack = new DisposableStack();
  let fd: OwnedFd;
  try {
    fd = stack.use(OwnedFd.open(path, O_RDONLY | O_CLOEXEC));
  } catch (cause) {
    throw unreadable("its memory file", cause);
  }
  const identity = identityOf(fd.fd);
  if (identity.size !== expected.size) throw refuse("its memory file is truncated");
  if (digests.length !== Math.ceil(expected.size / CHUNK) * DIGEST) {
    throw refuse("its memory.digests has another size");
  }
  const same = (Object.keys(identity) as (keyof FileIdentity)[])
    .every((name) => identity[name] === expected[name]);
  if (whole || !same) verifyMemory(fd.fd, expected.size, digests);
  const file = new MemoryFile(fd, expected.size);
  stack.move();
  return file;
}
