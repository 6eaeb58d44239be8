/**
 * Saves a guest's RAM to the memory file of a snapshot, a slice at a time and on other threads: a
 * server has other guests to see to meanwhile.
 *
 * @module
 */
import { diskError } from "../../base/files.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { O_CLOEXEC, O_RDWR } from "../../ffi/uapi/mman.ts";
import { PAGE_SIZE } from "../layout.ts";
import type { FileRange, GuestMemory } from "../memory/guest_memory.ts";
import { dataOf } from "./data_ranges.ts";
import { digestBytes, digestMemory } from "./digests.ts";
import { inLanes } from "./lanes.ts";
import { type FileIdentity, identityOf } from "./memory_file.ts";
import { writePages } from "./write_pages.ts";

/** Bytes of RAM that are written by one call: what a VM that ends meanwhile keeps mapped so long. */
const SLICE = 32 * 1024 * 1024;
/** Documentation/admin-guide/mm/pagemap.rst: bit 63 present, bit 62 swapped. */
const PAGEMAP_ENTRY = 8;
const PAGEMAP_THERE = 0xc000_0000;

/** What {@linkcode writeMemory} did. */
export interface WrittenMemory {
  readonly identity: FileIdentity;
  /** SHA-256 of each 2 MiB; zeros for one without data, and where nobody will need the file later. */
  readonly digests: Uint8Array<ArrayBuffer>;
  /** Bytes that are not holes. */
  readonly data: number;
}

/** How RAM is written. */
export interface WriteOptions {
  /** The file that RAM was mapped from, if it was. */
  readonly base: number | undefined;
  /** Whether anybody will need it later, so that it is synced and has digests. */
  readonly durable: boolean;
  /** Called when RAM was read, so that the guest may go on. */
  readonly copied: () => void;
}

/** Which of the pages of a range of RAM may hold something else than zeros: a mark for each. */
async function touchedPages(
  pagemap: Deno.FsFile,
  ram: bigint,
  { start, end }: FileRange,
  base: number | undefined,
): Promise<Uint8Array<ArrayBuffer>> {
  const marks = new Uint8Array(Math.ceil((end - start) / PAGE_SIZE));
  const map = new Uint8Array(marks.length * PAGEMAP_ENTRY);
  const first = (ram + BigInt(start)) / BigInt(PAGE_SIZE) * BigInt(PAGEMAP_ENTRY);
  await pagemap.seek(first, Deno.SeekMode.Start);
  for (let done = 0; done < map.length;) {
    const got = await pagemap.read(map.subarray(done));
    if (got === null) throw new RangeError("Cannot read /proc/self/pagemap: it ends early");
    done += got;
  }
  const view = new DataView(map.buffer);
  for (let page = 0; page < marks.length; page++) {
    const high = view.getUint32(page * PAGEMAP_ENTRY + 4, true);
    if ((high & PAGEMAP_THERE) !== 0) marks[page] = 1;
  }
  if (base !== undefined) {
    for (const data of dataOf(base, start, end)) {
      const [from, to] = [data.start - start, data.end - start];
      marks.fill(1, Math.floor(from / PAGE_SIZE), Math.ceil(to / PAGE_SIZE));
    }
  }
  return marks;
}

const FULL: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on the disk",
  EDQUOT: "the disk quota is used up",
};

function cannotWrite(cause: unknown): unknown {
  if (!(cause instanceof SyscallError)) return cause;
  const why = Object.assign(new Error(FULL[cause.code] ?? cause.message), { code: cause.code });
  return diskError("Cannot save the VM", why);
}

/**
 * Writes RAM to a new file. The guest is paused. The calling thread never works on it for more than
 * some milliseconds at a time.
 *
 * @param memory of the guest; when it is disposed meanwhile, this fails
 * @param path must not exist
 * @param options how
 * @throws {CloudletError} `host` when the disk is full
 */
export async function writeMemory(
  memory: GuestMemory,
  path: string,
  { base, durable, copied }: WriteOptions,
): Promise<WrittenMemory> {
  const { address, length: size } = memory.ram;
  using file = await Deno.open(path, { createNew: true, write: true, mode: 0o600 });
  await file.truncate(size);
  using opened = OwnedFd.open(path, O_RDWR | O_CLOEXEC);
  let data = 0;
  let begun = 0;
  const take = (): FileRange | undefined => {
    const start = begun;
    begun = Math.min(start + SLICE, size);
    return start < size ? { start, end: begun } : undefined;
  };
  try {
    await inLanes(take, async (next) => {
      using pagemap = await Deno.open("/proc/self/pagemap");
      for (let range; (range = next()) !== undefined;) {
        using _mapped = memory.keepMapped();
        const marks = await touchedPages(pagemap, address, range, base);
        if (!marks.includes(1)) continue;
        const place = address + BigInt(range.start);
        const written = await writePages(opened.fd, place, marks, range.start);
        data += written;
      }
    });
  } catch (cause) {
    throw cannotWrite(cause);
  }
  copied();
  let digests = new Uint8Array(digestBytes(size));
  if (durable) {
    await file.sync();
    digests = await digestMemory(path, opened.fd, size);
  }
  return { identity: identityOf(opened.fd), digests, data };
}
