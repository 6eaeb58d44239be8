/**
 * Memory mappings with an owner.
 *
 * @module
 */
import { errno, libc } from "./libc.ts";
import { SyscallError } from "./errno.ts";

const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** What {@linkcode Mapping.create} maps. */
export interface MapOptions {
  /** Bytes; a multiple of the page size. */
  readonly length: number;
  /** `PROT_*`. */
  readonly prot: number;
  /** `MAP_*`. */
  readonly flags: number;
  /** Descriptor, or -1 for anonymous memory. */
  readonly fd?: number;
  /** Offset in the file, in bytes. */
  readonly offset?: number;
  /** Where to map; for `MAP_FIXED`, over memory that the caller owns. */
  readonly address?: bigint;
}

/** Calls mmap(2) and returns the address; nobody owns it yet. */
export function mmap(options: MapOptions): bigint {
  const pointer = libc().mmap(
    // SAFETY: an address is only given together with MAP_FIXED over a mapping of the caller's.
    options.address === undefined ? null : Deno.UnsafePointer.create(options.address),
    BigInt(options.length),
    options.prot,
    options.flags,
    options.fd ?? -1,
    BigInt(options.offset ?? 0),
  );
  // SAFETY: only the number is used.
  const address = BigInt.asUintN(64, BigInt(Deno.UnsafePointer.value(pointer)));
  if (address === MAP_FAILED) throw new SyscallError("mmap", errno());
  return address;
}

/**
 * An ArrayBuffer over memory that somebody else owns.
 *
 * @param address start, which must stay mapped while the buffer is in use
 * @param length bytes
 */
export function bufferAt(address: bigint, length: number): ArrayBuffer {
  // SAFETY: the caller keeps [address, address + length) mapped while the buffer is in use.
  const pointer = Deno.UnsafePointer.create(address);
  if (pointer === null) throw new TypeError("Cannot make a buffer at address 0");
  return Deno.UnsafePointerView.getArrayBuffer(pointer, length);
}

/**
 * Where bytes of JavaScript's own lie.
 *
 * @param bytes of an ArrayBuffer of more than 64 bytes: V8 moves smaller ones about. The caller keeps
 * them for as long as the address is used.
 */
export function addressOf(bytes: Uint8Array<ArrayBuffer>): number {
  // SAFETY: only the number is used here; see above for the rest.
  return Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
}

/** Takes a buffer from whoever still has views of it. */
export function detach(buffer: ArrayBuffer): void {
  // To no bytes: else the result is another buffer of as many, for V8 to count until it is collected.
  buffer.transfer(0);
}

/**
 * A mapping that is unmapped when its owner is disposed. Its buffer is detached first, so that a
 * view that outlives it throws instead of touching memory that is somebody else's by then.
 */
export class Mapping implements Disposable {
  /** Start address. */
  readonly address: bigint;
  /** Bytes. */
  readonly length: number;
  #buffer: ArrayBuffer | undefined;
  #disposed = false;

  private constructor(address: bigint, length: number) {
    this.address = address;
    this.length = length;
  }

  /** Maps memory or a file. */
  static create(options: MapOptions): Mapping {
    return new Mapping(mmap(options), options.length);
  }

  /** The mapped bytes. */
  get buffer(): ArrayBuffer {
    if (this.#disposed) throw new TypeError("Cannot use a mapping: it is unmapped");
    return this.#buffer ??= bufferAt(this.address, this.length);
  }

  /** Detaches the buffer and unmaps; does nothing the second time. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#buffer !== undefined) detach(this.#buffer);
    this.#buffer = undefined;
    // SAFETY: this object owns [address, address + length) and has just let go of its buffer.
    libc().munmap(Deno.UnsafePointer.create(this.address), BigInt(this.length));
  }
}
