/**
 * Guest memory: one mapping, seen by every thread, accessed by guest-physical address with bounds
 * checked.
 *
 * Views are live: the guest changes the bytes at any time. Read a value once, check it, use that
 * copy.
 *
 * @module
 */
import { bufferAt, Mapping, mmap } from "../ffi/mapping.ts";
import { libc } from "../ffi/libc.ts";
import {
  MADV_DONTDUMP,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from "../ffi/uapi/mman.ts";
import { PAGE_SIZE, ramRanges } from "./layout.ts";

/** A piece of guest-physical address space that is backed by memory of this process. */
export interface MemorySlot {
  /** First guest-physical address. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /** Address in this process. */
  readonly address: bigint;
  /** Whether the guest and its devices may only read it. */
  readonly readOnly: boolean;
}

/** What {@linkcode GuestMemory.attach} needs in another thread; structured-clonable. */
export interface MemoryDescription {
  /** Index is the KVM slot number. */
  readonly slots: readonly MemorySlot[];
}

/** A guest-physical address that no memory answers, usually because the guest made it up. */
export class GuestAddressError extends Error {
  override readonly name = "GuestAddressError";
}

interface Window extends MemorySlot {
  readonly end: number;
  readonly buffer: ArrayBuffer;
  readonly view: DataView;
}

const LE = true;

/** Memory of one VM. The thread that made it owns it; other threads attach. */
export class GuestMemory implements Disposable {
  #windows: Window[] = [];
  #owned: Mapping[] = [];

  private constructor() {}

  /**
   * Maps fresh, zeroed RAM.
   *
   * @param size bytes, a multiple of the page size
   * @throws {SyscallError} when the host refuses
   */
  static create(size: number): GuestMemory {
    const memory = new GuestMemory();
    const mapping = Mapping.create({
      length: size,
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
    });
    memory.#owned.push(mapping);
    // SAFETY: the range is the mapping made above.
    libc().madvise(Deno.UnsafePointer.create(mapping.address), BigInt(size), MADV_DONTDUMP);
    let offset = 0;
    for (const range of ramRanges(size)) {
      memory.#add({ ...range, address: mapping.address + BigInt(offset), readOnly: false });
      offset += range.size;
    }
    return memory;
  }

  /** The same memory in another thread; it must be detached before the owner is disposed. */
  static attach(description: MemoryDescription): GuestMemory {
    const memory = new GuestMemory();
    for (const slot of description.slots) memory.#add(slot);
    return memory;
  }

  /**
   * Maps a file for reading, shared with everybody who maps it.
   *
   * @param start guest-physical address, a multiple of the page size
   * @param fd the file, which the mapping keeps open
   * @param size bytes of the file
   * @param alignment the slot is made a multiple of this long; zeros follow the file
   * @returns the new slot
   */
  addReadOnlyFile(start: number, fd: number, size: number, alignment = PAGE_SIZE): MemorySlot {
    const length = Math.ceil(size / alignment) * alignment;
    const mapping = Mapping.create({
      length,
      prot: PROT_READ,
      flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
    });
    this.#owned.push(mapping);
    // Pages wholly beyond the file's end would be a SIGBUS, so that only its own pages replace the
    // zeros.
    mmap({
      address: mapping.address,
      length: Math.ceil(size / PAGE_SIZE) * PAGE_SIZE,
      prot: PROT_READ,
      flags: MAP_SHARED | MAP_FIXED,
      fd,
    });
    const slot = { start, size: length, address: mapping.address, readOnly: true };
    this.#add(slot);
    return slot;
  }

  /** What other threads need to attach. */
  get description(): MemoryDescription {
    return {
      slots: this.#windows.map(({ start, size, address, readOnly }) => ({
        start,
        size,
        address,
        readOnly,
      })),
    };
  }

  /** Bytes of RAM. */
  get ramSize(): number {
    return this.#windows.reduce((sum, slot) => sum + (slot.readOnly ? 0 : slot.size), 0);
  }

  /**
   * All of RAM as it lies in this process: one range, without the holes that the guest sees.
   *
   * @throws {TypeError} in a thread that only attached
   */
  get ram(): { readonly address: bigint; readonly size: number; readonly buffer: ArrayBuffer } {
    const mapping = this.#owned[0];
    if (mapping === undefined) {
      throw new TypeError("Cannot reach RAM: it belongs to another thread");
    }
    return { address: mapping.address, size: mapping.length, buffer: mapping.buffer };
  }

  /**
   * Maps a file over RAM: the guest sees its content, and what it writes stays in this process. Any
   * slots and views stay as they are. Nobody may be using RAM meanwhile.
   *
   * @param fd of a file as large as RAM, which the mapping keeps open
   */
  mapOverRam(fd: number): void {
    const { address, size } = this.ram;
    mmap({
      address,
      length: size,
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
      fd,
    });
    // SAFETY: the range is this object's own mapping.
    libc().madvise(Deno.UnsafePointer.create(address), BigInt(size), MADV_DONTDUMP);
  }

  /** Whether `length` bytes at `address` are RAM. */
  contains(address: number, length: number): boolean {
    return this.#find(address, length, true) !== undefined;
  }

  /**
   * A live view of RAM.
   *
   * @param address guest-physical address
   * @param length bytes
   * @throws {GuestAddressError} when a byte of it is not RAM
   */
  bytes(address: number, length: number): Uint8Array<ArrayBuffer> {
    const window = this.#get(address, length, true);
    return new Uint8Array(window.buffer, address - window.start, length);
  }

  /** As {@linkcode bytes}, but read-only files will do too; the view must not be written. */
  readable(address: number, length: number): Uint8Array<ArrayBuffer> {
    const window = this.#get(address, length, false);
    return new Uint8Array(window.buffer, address - window.start, length);
  }

  /**
   * A live DataView of RAM, for structures that are read often; remember little-endian.
   *
   * @throws {GuestAddressError} when a byte of it is not RAM
   */
  dataView(address: number, length: number): DataView<ArrayBuffer> {
    const window = this.#get(address, length, true);
    return new DataView(window.buffer, address - window.start, length);
  }

  /** Reads an unsigned 8-bit value. */
  getUint8(address: number): number {
    const window = this.#get(address, 1, false);
    return window.view.getUint8(address - window.start);
  }

  /** Reads a little-endian unsigned 16-bit value. */
  getUint16(address: number): number {
    const window = this.#get(address, 2, false);
    return window.view.getUint16(address - window.start, LE);
  }

  /** Reads a little-endian unsigned 32-bit value. */
  getUint32(address: number): number {
    const window = this.#get(address, 4, false);
    return window.view.getUint32(address - window.start, LE);
  }

  /** Reads a little-endian unsigned 64-bit value. */
  getBigUint64(address: number): bigint {
    const window = this.#get(address, 8, false);
    return window.view.getBigUint64(address - window.start, LE);
  }

  /** Writes an unsigned 8-bit value. */
  setUint8(address: number, value: number): void {
    const window = this.#get(address, 1, true);
    window.view.setUint8(address - window.start, value);
  }

  /** Writes a little-endian unsigned 16-bit value. */
  setUint16(address: number, value: number): void {
    const window = this.#get(address, 2, true);
    window.view.setUint16(address - window.start, value, LE);
  }

  /** Writes a little-endian unsigned 32-bit value. */
  setUint32(address: number, value: number): void {
    const window = this.#get(address, 4, true);
    window.view.setUint32(address - window.start, value, LE);
  }

  /** Writes a little-endian unsigned 64-bit value. */
  setBigUint64(address: number, value: bigint): void {
    const window = this.#get(address, 8, true);
    window.view.setBigUint64(address - window.start, value, LE);
  }

  /** Copies `source` to RAM. */
  write(address: number, source: Uint8Array): void {
    this.bytes(address, source.length).set(source);
  }

  /** Detaches every view; the owner also unmaps. Does nothing the second time. */
  [Symbol.dispose](): void {
    for (const window of this.#windows) if (!window.buffer.detached) window.buffer.transfer();
    this.#windows = [];
    for (const mapping of this.#owned) mapping[Symbol.dispose]();
    this.#owned = [];
  }

  #add(slot: MemorySlot): void {
    const buffer = bufferAt(slot.address, slot.size);
    this.#windows.push({
      ...slot,
      end: slot.start + slot.size,
      buffer,
      view: new DataView(buffer),
    });
  }

  #find(address: number, length: number, writable: boolean): Window | undefined {
    // Addresses and lengths come from the guest: a bigint rounded to a double beyond 2^53 is far
    // outside every slot, so rounding cannot bring it in.
    if (!(address >= 0) || !(length >= 0)) return undefined;
    for (const window of this.#windows) {
      if (address >= window.start && address + length <= window.end) {
        return writable && window.readOnly ? undefined : window;
      }
    }
    return undefined;
  }

  #get(address: number, length: number, writable: boolean): Window {
    const window = this.#find(address, length, writable);
    if (window === undefined) {
      throw new GuestAddressError(
        `Cannot access ${length} bytes at guest address 0x${address.toString(16)}: no ${
          writable ? "RAM" : "memory"
        } there`,
      );
    }
    return window;
  }
}
