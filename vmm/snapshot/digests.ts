/**
 * The digests of a memory file: SHA-256 of each 2 MiB that have data, computed on other threads.
 *
 * @module
 */
import { nextData } from "./data_ranges.ts";
import { inLanes } from "./lanes.ts";

/** Bytes that have a digest of their own. */
export const CHUNK: number = 2 * 1024 * 1024;
const DIGEST = 32;

/** Bytes of the digests of a file. */
export function digestBytes(size: number): number {
  return Math.ceil(size / CHUNK) * DIGEST;
}

async function readFully(file: Deno.FsFile, offset: number, target: Uint8Array): Promise<void> {
  await file.seek(offset, Deno.SeekMode.Start);
  for (let done = 0; done < target.length;) {
    const got = await file.read(target.subarray(done));
    if (got === null) throw new RangeError("Cannot read the memory file: it ends early");
    done += got;
  }
}

/**
 * Reads all of a memory file.
 *
 * @param path of the file
 * @param fd of the same file, whose offset is moved
 * @param size of the file
 * @returns a digest for each chunk, zeros for one without data
 */
export async function digestMemory(
  path: string,
  fd: number,
  size: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const digests = new Uint8Array(digestBytes(size));
  let offset = 0;
  const take = () => {
    const start = offset < size ? nextData(fd, offset) : undefined;
    if (start === undefined) return undefined;
    const chunk = Math.floor(start / CHUNK);
    offset = (chunk + 1) * CHUNK;
    return chunk;
  };
  await inLanes(take, async (next) => {
    using file = await Deno.open(path);
    const buffer = new Uint8Array(Math.min(CHUNK, size));
    for (let chunk; (chunk = next()) !== undefined;) {
      const start = chunk * CHUNK;
      const bytes = buffer.subarray(0, Math.min(CHUNK, size - start));
      await readFully(file, start, bytes);
      digests.set(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)), chunk * DIGEST);
    }
  });
  return digests;
}
