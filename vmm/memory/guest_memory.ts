/**
 * Guest memory: one mapping, seen by every thread, accessed by guest-physical address with bounds
 * checked.
 *
 * Views are live: the guest changes the bytes at any time. Read a value once, check it, use that
 * copy.
 *
 * @module
 */
import { HostMemory } from "../../ffi/host_memory.ts";
import { Mapping, mmap } from "../../ffi/mapping.ts";
import { libc } from "../../ffi/libc.ts";
import {
  MADV_DONTDUMP,
  MADV_NOHUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from "../../ffi/uapi/mman.ts";
import { PAGE_SIZE, ramRanges } from "../layout.ts";

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

/** Bytes of a file, from the first to the one behind the last. */
export interface FileRange {
  /** A multiple of the page size. */
  readonly start: number;
  /** A multiple of the page size, or the file's end. */
  readonly end: number;
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

interface Slot extends MemorySlot {
  readonly end: number;
  readonly host: HostMemory;
}

const LE = true;

/** Memory of one VM. The thread that made it owns it; other threads attach. */
export class GuestMemory implements Disposable {
  #slots: Slot[] = [];
  #owned: Mapping[] = [];
  #ram: HostMemory | undefined;
  #kept = 0;
  #disposed = false;
  readonly #bytes = new Uint8Array(8);
  readonly #word = new DataView(this.#bytes.buffer);

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
    memory.#ram = new HostMemory(mapping.address, size);
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
      slots: this.#slots.map(({ start, size, address, readOnly }) => ({
        start,
        size,
        address,
        readOnly,
      })),
    };
  }

  /** Bytes of RAM. */
  get ramSize(): number {
    return this.#slots.reduce((sum, slot) => sum + (slot.readOnly ? 0 : slot.size), 0);
  }

  /**
   * All of RAM as it lies in this process: one range, without the holes that the guest sees.
   *
   * @throws {TypeError} in a thread that only attached
   */
  get ram(): HostMemory {
    if (this.#ram !== undefined) return this.#ram;
    throw new TypeError("Cannot reach RAM: it belongs to another thread");
  }

  /**
   * Maps a file over RAM that nobody has written to: the guest sees its content, and what it writes
   * stays in this process. Any slots and views stay as they are. Nobody may be using RAM meanwhile.
   *
   * @param fd of a file as large as RAM, which the mapping keeps open
   * @param data of the file, by offset: elsewhere it has zeros, as RAM has, which is left as it is
   */
  mapOverRam(fd: number, data: readonly FileRange[]): void {
    const { address, length } = this.ram;
    for (const { start, end } of data) {
      if (!(start >= 0 && start < end && end <= length)) throw new RangeError("no range of RAM");
      const place = address + BigInt(start);
      mmap({
        address: place,
        length: end - start,
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
        fd,
        offset: start,
      });
      // SAFETY: the range is in this object's own mapping.
      libc().madvise(Deno.UnsafePointer.create(place), BigInt(end - start), MADV_DONTDUMP);
    }
  }

  /** Has the host back RAM by small pages only: a guest that writes here and there takes little then. */
  useSmallPages(): void {
    const { address, length } = this.ram;
    // SAFETY: the range is this object's own mapping.
    libc().madvise(Deno.UnsafePointer.create(address), BigInt(length), MADV_NOHUGEPAGE);
  }

  /** Whether `length` bytes at `address` are RAM. */
  contains(address: number, length: number): boolean {
    return this.#find(address, length, true) !== undefined;
  }

  /**
   * Lends a live view of RAM.
   *
   * @param address guest-physical address
   * @param length bytes
   * @param use gets the view, which has no bytes any more when it returns
   * @returns what `use` returns
   * @throws {GuestAddressError} when a byte of it is not RAM
   */
  lend<T>(address: number, length: number, use: (bytes: Uint8Array<ArrayBuffer>) => T): T {
    const { start, host } = this.#get(address, length, true);
    const window = host.window(address - start, length);
    try {
      return use(window);
    } finally {
      host.release(window);
    }
  }

  /**
   * Copies memory, of read-only files as well.
   *
   * @param address guest-physical address
   * @param length bytes
   * @throws {GuestAddressError} when a byte of it is no memory
   */
  read(address: number, length: number): Uint8Array<ArrayBuffer> {
    const slot = this.#get(address, length, false);
    const result = new Uint8Array(length);
    slot.host.read(address - slot.start, result);
    return result;
  }

  /** Copies `source` to RAM; throws a {@linkcode GuestAddressError} when it is not all RAM. */
  write(address: number, source: Uint8Array): void {
    const slot = this.#get(address, source.length, true);
    slot.host.write(address - slot.start, source);
  }

  /** Where RAM is in this process; throws a {@linkcode GuestAddressError} when it is not all RAM. */
  hostAddress(address: number, length: number): bigint {
    const slot = this.#get(address, length, true);
    return slot.address + BigInt(address - slot.start);
  }

  /** Reads a little-endian unsigned 64-bit value, at once. */
  getBigUint64(address: number): bigint {
    const slot = this.#get(address, 8, false);
    slot.host.read(address - slot.start, this.#bytes);
    return this.#word.getBigUint64(0, LE);
  }

  /** Writes a little-endian unsigned 64-bit value. */
  setBigUint64(address: number, value: bigint): void {
    this.#word.setBigUint64(0, value, LE);
    this.write(address, this.#bytes);
  }

  /**
   * Keeps everything mapped until the result is disposed, for a call on another thread that reads
   * RAM by its address. When the memory is disposed meanwhile, the last such call unmaps it.
   *
   * @throws {RangeError} when it is disposed
   */
  keepMapped(): Disposable {
    if (this.#disposed) throw new RangeError("Cannot reach memory: it is unmapped");
    this.#kept++;
    let over = false;
    return {
      [Symbol.dispose]: () => {
        if (over) return;
        over = true;
        if (--this.#kept === 0 && this.#disposed) this.#unmap();
      },
    };
  }

  /** Detaches every view; the owner also unmaps. Does nothing the second time. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const { host } of this.#slots) host[Symbol.dispose]();
    this.#ram?.[Symbol.dispose](); // whoever still saves it reads nothing that is somebody else's
    this.#slots = [];
    if (this.#kept === 0) this.#unmap();
  }

  #unmap(): void {
    for (const mapping of this.#owned) mapping[Symbol.dispose]();
    this.#owned = [];
  }

  #add(slot: MemorySlot): void {
    this.#slots.push({
      ...slot,
      end: slot.start + slot.size,
      host: new HostMemory(slot.address, slot.size),
    });
  }

  #find(address: number, length: number, writable: boolean): Slot | undefined {
    // Addresses and lengths come from the guest: a bigint rounded to a double beyond 2^53 is far
    // outside every slot, so rounding cannot bring it in.
    if (!(address >= 0) || !(length >= 0)) return undefined;
    for (const slot of this.#slots) {
      if (address >= slot.start && address + length <= slot.end) {
        return writable && slot.readOnly ? undefined : slot;
      }
    }
    return undefined;
  }

  #get(address: number, length: number, writable: boolean): Slot {
    const slot = this.#find(address, length, writable);
    if (slot === undefined) {
      throw new GuestAddressError(
        `Cannot access ${length} bytes at guest address 0x${address.toString(16)}: no ${
          writable ? "RAM" : "memory"
        } there`,
      );
    }
    return slot;
  }
}
