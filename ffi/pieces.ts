/**
 * Bytes that lie in several places of this process, as the `struct iovec[]` that readv(2) and its kin
 * take: a packet in a guest's memory is read and written where it is.
 *
 * @module
 */
import { libc } from "./libc.ts";
import { addressOf } from "./mapping.ts";

const IOVEC_BYTES = 16; // struct iovec { void *iov_base; size_t iov_len; }
/** include/uapi/linux/uio.h, UIO_MAXIOV. */
export const MAX_PIECES = 1024;
const WORD = 2 ** 32;

/** A reusable list of pieces. Whoever adds one vouches for its bytes until the list is cleared. */
export class Pieces {
  /** `struct iovec[]`, of which the first {@linkcode Pieces.count} are filled. */
  readonly array: Uint8Array<ArrayBuffer>;
  /** How many pieces there are. */
  count = 0;
  /** Bytes of all pieces. */
  length = 0;
  /** The array in halves of its words: numbers, since a bigint is allocated. */
  readonly #words: Uint32Array;
  #address: number | undefined;

  /** @param most pieces that there can be, up to {@linkcode MAX_PIECES} */
  constructor(most = MAX_PIECES) {
    this.array = new Uint8Array(IOVEC_BYTES * most);
    this.#words = new Uint32Array(this.array.buffer);
  }

  /** Where the array itself lies. */
  get address(): number {
    return this.#address ??= addressOf(this.array);
  }

  /** Whether another piece finds room. */
  get isFull(): boolean {
    return this.count === this.#words.length / 4;
  }

  /** Forgets all pieces. */
  clear(): void {
    this.count = this.length = 0;
  }

  /**
   * Adds a piece; one without bytes is none.
   *
   * @param address of its first byte
   * @param length in bytes
   * @throws {RangeError} when there is no room: see {@linkcode Pieces.isFull}
   */
  add(address: number, length: number): void {
    if (length === 0) return;
    if (this.isFull) throw new RangeError("Cannot add a piece: there are too many");
    const at = 4 * this.count++;
    this.#words[at] = address % WORD;
    this.#words[at + 1] = Math.floor(address / WORD);
    this.#words[at + 2] = length;
    this.#words[at + 3] = 0;
    this.length += length;
  }

  /**
   * Fills another list with a part of this one.
   *
   * @param from bytes to leave out at the beginning
   * @param length the most bytes of the part
   * @param target cleared first
   * @returns the target
   */
  slice(from: number, length: number, target: Pieces): Pieces {
    target.clear();
    for (let i = 0; i < this.count && target.length < length; i++) {
      const size = this.#sizeOf(i);
      if (from >= size) {
        from -= size;
        continue;
      }
      target.add(this.#addressOf(i) + from, Math.min(size - from, length - target.length));
      from = 0;
    }
    return target;
  }

  /** Adds another list's pieces, as many as find room. */
  append(other: Pieces): void {
    for (let i = 0; i < other.count && !this.isFull; i++) {
      this.add(other.#addressOf(i), other.#sizeOf(i));
    }
  }

  /** Leaves only the first bytes. */
  truncate(length: number): void {
    while (this.length > length) {
      const last = this.count - 1;
      const size = this.#sizeOf(last);
      const excess = this.length - length;
      if (excess < size) {
        this.#words[4 * last + 2] = size - excess;
        this.length = length;
      } else {
        this.count--;
        this.length -= size;
      }
    }
  }

  /**
   * Copies bytes from here.
   *
   * @param target filled as far as the pieces go
   * @param from bytes to skip
   * @returns how many were copied
   */
  read(target: Uint8Array, from = 0): number {
    return this.#copy(target, from, false);
  }

  /** Copies bytes to here; returns how many found room. Else as {@linkcode Pieces.read}. */
  write(source: Uint8Array, from = 0): number {
    return this.#copy(source, from, true);
  }

  /** A copy of all bytes from an offset on. */
  bytes(from = 0): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(Math.max(0, this.length - from));
    this.read(bytes, from);
    return bytes;
  }

  #addressOf(index: number): number {
    return this.#words[4 * index + 1]! * WORD + this.#words[4 * index]!;
  }

  #sizeOf(index: number): number {
    return this.#words[4 * index + 2]!;
  }

  #copy(bytes: Uint8Array, from: number, into: boolean): number {
    let done = 0;
    for (let i = 0; i < this.count && done < bytes.length; i++) {
      const size = this.#sizeOf(i);
      if (from >= size) {
        from -= size;
        continue;
      }
      const count = Math.min(size - from, bytes.length - done);
      const part =
        (count === bytes.length ? bytes : bytes.subarray(done, done + count)) as Uint8Array<
          ArrayBuffer
        >;
      // SAFETY: the piece is memory of this process; its owner vouches for it.
      const address = BigInt(this.#addressOf(i) + from);
      if (into) libc().memcpy_to(address, part, BigInt(count));
      else libc().memcpy_from(part, address, BigInt(count));
      done += count;
      from = 0;
    }
    return done;
  }
}
