/**
 * Reading archives at any offset, from a file or from memory, without holding whole files.
 *
 * Reads are synchronous: header walks make many tiny reads out of the page cache, where one promise
 * each would cost more than the read.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { CloudletError } from "../../base/errors.ts";
import type { Content } from "../tree.ts";

/** Bytes with a known size that can be read at any offset. */
export interface ByteSource extends Disposable {
  /** For error messages: what is being read. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Exactly `length` bytes from `offset` on; a view that is valid until the next call.
   *
   * @throws {CloudletError} `untrusted` when the source ends before that
   */
  read(offset: number, length: number): Uint8Array;
  /** A {@linkcode Content} that stands for part of the source. */
  content(offset: number, size: number): Content;
}

const WINDOW = 64 * 1024;

function truncated(name: string, end: number, size: number): CloudletError {
  return new CloudletError(
    `Cannot read ${name}: it is truncated (needs ${end} bytes, has ${size})`,
    { code: "untrusted", remedy: "remove the file and let it be fetched again" },
  );
}

class BytesSource implements ByteSource {
  readonly size: number;
  constructor(readonly name: string, readonly bytes: Uint8Array) {
    this.size = bytes.length;
  }
  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.size) throw truncated(this.name, offset + length, this.size);
    return this.bytes.subarray(offset, offset + length);
  }
  content(offset: number, size: number): Content {
    return { kind: "bytes", bytes: this.bytes.subarray(offset, offset + size) };
  }
  [Symbol.dispose]() {}
}

class FileSource implements ByteSource {
  readonly size: number;
  readonly #file: Deno.FsFile;
  readonly #start: number;
  #window = new Uint8Array(WINDOW);
  #windowStart = 0;
  #windowLength = 0;

  constructor(readonly name: string, path: string, start: number, size: number | undefined) {
    this.#file = Deno.openSync(path);
    this.#start = start;
    const available = this.#file.statSync().size - start;
    if (size !== undefined && size > available) {
      this.#file.close();
      throw truncated(name, start + size, start + available);
    }
    this.size = size ?? available;
    this.path = path;
  }
  readonly path: string;

  read(offset: number, length: number): Uint8Array {
    if (offset + length > this.size) throw truncated(this.name, offset + length, this.size);
    const inWindow = offset - this.#windowStart;
    if (inWindow < 0 || inWindow + length > this.#windowLength) this.#fill(offset, length);
    const from = offset - this.#windowStart;
    return this.#window.subarray(from, from + length);
  }

  #fill(offset: number, length: number): void {
    if (length > this.#window.length) this.#window = new Uint8Array(length);
    this.#windowStart = offset;
    this.#windowLength = 0;
    const wanted = Math.min(this.#window.length, this.size - offset);
    this.#file.seekSync(this.#start + offset, Deno.SeekMode.Start);
    while (this.#windowLength < wanted) {
      const count = this.#file.readSync(this.#window.subarray(this.#windowLength, wanted));
      if (count === null) throw truncated(this.name, offset + length, offset + this.#windowLength);
      this.#windowLength += count;
    }
  }

  content(offset: number, size: number): Content {
    return { kind: "file", path: this.path, offset: this.#start + offset, size };
  }
  [Symbol.dispose]() {
    this.#file.close();
  }
}

const CHUNK = 1 << 20; // bytes; large enough that the number of calls does not matter

/** All bytes of a source in pieces; each piece is only valid until the next one is asked for. */
export function* chunksOf(source: ByteSource): Generator<Uint8Array> {
  for (let at = 0; at < source.size; at += CHUNK) {
    yield source.read(at, Math.min(CHUNK, source.size - at));
  }
}

/** SHA-256 of all bytes of a source, in hex. */
export function digestOf(source: ByteSource): string {
  const hash = createHash("sha256");
  for (const chunk of chunksOf(source)) hash.update(chunk);
  return hash.digest("hex");
}

/**
 * Opens a file, part of a file or bytes for reading.
 *
 * @param from path of a file, or content
 * @param name for error messages; the path when absent
 */
export function openSource(from: string | Content, name?: string): ByteSource {
  if (typeof from === "string") return new FileSource(name ?? from, from, 0, undefined);
  if (from.kind === "bytes") return new BytesSource(name ?? "an archive in memory", from.bytes);
  return new FileSource(name ?? from.path, from.path, from.offset, from.size);
}
