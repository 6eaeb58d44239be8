/**
 * Bytes of this process that somebody else has mapped, copied or looked at by offset.
 *
 * There is no ArrayBuffer of the whole: V8 counts the bytes of each as memory that it could get back,
 * so that a thread which has one over a guest's RAM collects garbage with every small buffer that it
 * makes, and one which has many does hardly anything else.
 *
 * @module
 */
import { libc } from "./libc.ts";
import { bufferAt, detach } from "./mapping.ts";

/** A range of this process, which must stay mapped until this object is disposed. */
export class HostMemory implements Disposable {
  /** Where it begins. */
  readonly address: bigint;
  #length: number;
  readonly #windows = new Set<ArrayBuffer>();

  /**
   * @param address where it begins
   * @param length in bytes
   */
  constructor(address: bigint, length: number) {
    this.address = address;
    this.#length = length;
  }

  /** In bytes; 0 after its end. */
  get length(): number {
    return this.#length;
  }

  /**
   * Copies bytes from here.
   *
   * @param offset of the first
   * @param target filled
   * @throws {RangeError} when they are not all in the range, or it is disposed
   */
  read(offset: number, target: Uint8Array): void {
    const { length } = target;
    this.#check(offset, length);
    // SAFETY: the bytes are in the range, which is mapped.
    libc().memcpy_from(target as Uint8Array<ArrayBuffer>, this.#at(offset), BigInt(length));
  }

  /** Copies bytes to here; else as {@linkcode read}. */
  write(offset: number, source: Uint8Array): void {
    const { length } = source;
    this.#check(offset, length);
    // SAFETY: as for read().
    libc().memcpy_to(this.#at(offset), source as Uint8Array<ArrayBuffer>, BigInt(length));
  }

  /**
   * Live bytes, for what is looked at again and again, or by something that takes bytes.
   *
   * @param offset of the first
   * @param length how many, at least one
   * @returns what has to be given back with {@linkcode release}; detached with this object's end
   * @throws {RangeError} when they are not all in the range, or it is disposed
   */
  window(offset: number, length: number): Uint8Array<ArrayBuffer> {
    this.#check(offset, length);
    const buffer = bufferAt(this.#at(offset), length);
    this.#windows.add(buffer);
    return new Uint8Array(buffer);
  }

  /** Takes a window back: it has no bytes any more. */
  release({ buffer }: Uint8Array<ArrayBuffer>): void {
    if (this.#windows.delete(buffer)) detach(buffer);
  }

  #at(offset: number): bigint {
    return this.address + BigInt(offset);
  }

  #check(offset: number, length: number): void {
    if (offset >= 0 && offset + length <= this.#length) return;
    throw new RangeError(
      this.#length === 0
        ? "Cannot reach memory: it is unmapped"
        : `Cannot reach ${length} bytes at ${offset}: there are ${this.#length}`,
    );
  }

  /** Detaches all windows; the memory itself stays. */
  [Symbol.dispose](): void {
    this.#length = 0;
    this.#windows.forEach(detach);
    this.#windows.clear();
  }
}
