/**
 * Writes an EROFS image: one pass over the contents, front to back, hashed on the way.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { diskError } from "../../base/files.ts";
import { ContentReader } from "../content_reader.ts";
import type { Tree } from "../tree.ts";
import { BLOCK_SIZE, HUGE_SIZE } from "./format.ts";
import { planImage } from "./layout.ts";

/** Settings of {@linkcode writeErofs}. */
export interface ErofsOptions {
  /** Volume name, at most 15 bytes of UTF-8. */
  readonly label?: string;
  /** 16 bytes; without it a UUID made from the tree's metadata, so that equal trees have equal ones. */
  readonly uuid?: Uint8Array;
  /** Told the bytes of the image, holes included, that were added since the last call. */
  readonly onProgress?: (bytes: number) => void;
}

/** What {@linkcode writeErofs} wrote. */
export interface ErofsImage {
  /** Length of the file in bytes, a multiple of 2 MiB. */
  readonly size: number;
  /** Number of inodes. */
  readonly inodes: number;
  /** SHA-256 of the file, in hex. */
  readonly sha256: string;
}

const BUFFER_SIZE = 4 * 1024 * 1024;
/** Gaps from this size on are holes in the file; shorter ones cost less as zeros. */
const HOLE_SIZE = 64 * 1024;
const ZEROS = new Uint8Array(BUFFER_SIZE);

/**
 * Writes `tree` as an uncompressed EROFS image. The same tree and options give the same bytes.
 *
 * The file's length is rounded up to 2 MiB by a hole: a pmem device is made of such units
 * (PAGES_PER_SUBSECTION of Linux include/linux/mmzone.h).
 *
 * @param tree what to write
 * @param path the image file; replaced when it exists. On an error a part of it may be left: give
 *   a temporary name and rename it
 * @param options label, UUID, progress
 * @throws {CloudletError} `invalid-input` for what EROFS cannot hold, `host` when a content cannot
 *   be read or the image cannot be written
 */
export async function writeErofs(
  tree: Tree,
  path: string,
  options: ErofsOptions = {},
): Promise<ErofsImage> {
  const layout = planImage(tree, options);
  const size = Math.ceil(layout.blocks * BLOCK_SIZE / HUGE_SIZE) * HUGE_SIZE;
  try {
    using file = await Deno.open(path, { write: true, create: true, truncate: true });
    using reader = new ContentReader();
    await using image = new ImageWriter(file, options.onProgress);
    await image.bytes(layout.metadata);
    for (const piece of layout.pieces) {
      await image.seek(piece.block * BLOCK_SIZE);
      const { content } = piece;
      if (content.kind === "bytes") await image.bytes(content.bytes);
      else {await image.fill(content.size, (into, done) =>
          reader.read(content, done, into, piece.path));}
    }
    await image.seek(size);
    const sha256 = await image.finish();
    await file.truncate(size);
    return { size, inodes: layout.inodes, sha256 };
  } catch (cause) {
    throw diskError(`Cannot write the image ${path}`, cause);
  }
}

/**
 * Two buffers: while one is being written, the other one is filled and hashed.
 */
class ImageWriter implements AsyncDisposable {
  readonly #file: Deno.FsFile;
  readonly #onProgress: ((bytes: number) => void) | undefined;
  readonly #hash = createHash("sha256");
  #filling = new Uint8Array(BUFFER_SIZE);
  #other = new Uint8Array(BUFFER_SIZE);
  /** Offset in the image of the buffer being filled. */
  #start = 0;
  #used = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(file: Deno.FsFile, onProgress?: (bytes: number) => void) {
    this.#file = file;
    this.#onProgress = onProgress;
  }

  /** Adds bytes. */
  async bytes(bytes: Uint8Array): Promise<void> {
    await this.fill(
      bytes.length,
      (into, done) => into.set(bytes.subarray(done, done + into.length)),
    );
  }

  /** Adds `size` bytes that `read` puts into the parts of the buffer that it is given. */
  async fill(size: number, read: (into: Uint8Array, done: number) => void): Promise<void> {
    for (let done = 0; done < size;) {
      const part = this.#filling.subarray(this.#used, this.#used + size - done);
      read(part, done);
      done += part.length;
      this.#used += part.length;
      if (this.#used === BUFFER_SIZE) await this.#flush();
    }
  }

  /** Goes on at `offset` in the image; what lies between is zero. */
  async seek(offset: number): Promise<void> {
    const gap = offset - this.#start - this.#used;
    if (gap < HOLE_SIZE) return await this.fill(gap, (into) => into.fill(0));
    await this.#flush();
    for (let done = 0; done < gap; done += ZEROS.length) {
      this.#hash.update(ZEROS.subarray(0, gap - done));
    }
    this.#start = offset;
    this.#onProgress?.(gap);
  }

  /** Writes what is left and says the SHA-256 of all. */
  async finish(): Promise<string> {
    await this.#flush();
    await this.#writing;
    return this.#hash.digest("hex");
  }

  /** Hands the buffer to the file; waits for the one before. */
  async #flush(): Promise<void> {
    const part = this.#filling.subarray(0, this.#used);
    if (part.length === 0) return;
    this.#hash.update(part);
    await this.#writing;
    this.#writing = this.#write(part, this.#start);
    this.#writing.catch(() => {}); // reported by whoever awaits it next
    this.#start += part.length;
    this.#used = 0;
    [this.#filling, this.#other] = [this.#other, this.#filling];
    this.#onProgress?.(part.length);
  }

  /** Lets a write under way end before the file is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => {});
  }

  async #write(bytes: Uint8Array, at: number): Promise<void> {
    if (Buffer.compare(bytes, ZEROS.subarray(0, bytes.length)) === 0) return; // a hole
    await this.#file.seek(at, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      done += await this.#file.write(bytes.subarray(done));
    }
  }
}
