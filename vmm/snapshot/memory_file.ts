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
import { OwnedFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { O_CLOEXEC, O_RDONLY } from "../../ffi/uapi/mman.ts";
import type { FileRange } from "../memory/guest_memory.ts";
import { coarseDataOf } from "./data_ranges.ts";
import { digestBytes, digestMemory } from "./digests.ts";
import { refuse } from "./format.ts";

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
 * Reads all of a memory file and compares its digests.
 *
 * @throws {CloudletError} `untrusted` when a byte is another one
 */
async function verifyMemory(
  path: string,
  fd: number,
  size: number,
  digests: Uint8Array,
): Promise<void> {
  const seen = await digestMemory(path, fd, size);
  if (!seen.every((byte, i) => byte === digests[i])) {
    throw refuse("the checksum of its memory file is wrong");
  }
}

/**
 * Opens a memory file and makes sure that it is the one that was saved.
 *
 * @param path of the file
 * @param expected as {@linkcode writeMemory} gave it
 * @param digests as {@linkcode writeMemory} gave them
 * @param whole check every byte, even when nothing says that the file was changed
 * @throws {CloudletError} `untrusted` when it is another one
 */
export async function openMemory(
  path: string,
  expected: FileIdentity,
  digests: Uint8Array,
  whole = false,
): Promise<MemoryFile> {
  using stack = new DisposableStack();
  let fd: OwnedFd;
  try {
    fd = stack.use(OwnedFd.open(path, O_RDONLY | O_CLOEXEC));
  } catch (cause) {
    throw refuse("its memory file cannot be opened", cause);
  }
  const identity = identityOf(fd.fd);
  if (identity.size !== expected.size) throw refuse("its memory file is truncated");
  if (digests.length !== digestBytes(expected.size)) {
    throw refuse("its memory.digests has another size");
  }
  const same = (Object.keys(identity) as (keyof FileIdentity)[])
    .every((name) => identity[name] === expected[name]);
  if (whole || !same) await verifyMemory(`/proc/self/fd/${fd.fd}`, fd.fd, expected.size, digests);
  const file = new MemoryFile(fd, expected.size);
  stack.move();
  return file;
}
