/**
 * What devices see of the guest's memory: one mapping and one bounds check.
 *
 * @module
 */
import { bufferAt } from "../../ffi/mapping.ts";
import type { MemoryDescription } from "../memory.ts";

/**
 * Guest RAM as a device may touch it. Everything that a guest names goes through
 * {@linkcode DeviceMemory.offsetOf} before it is used.
 */
export interface DeviceMemory {
  /** All of guest RAM; offsets come from {@linkcode DeviceMemory.offsetOf}. */
  readonly view: DataView<ArrayBufferLike>;
  /** The same bytes as {@linkcode DeviceMemory.view}. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  /** Host virtual address of the first byte of {@linkcode DeviceMemory.view}. */
  readonly base: bigint;
  /**
   * Where a range of guest-physical memory is in {@linkcode DeviceMemory.view}.
   *
   * @param address guest-physical address of the first byte
   * @param length in bytes; 0 is allowed
   * @returns the offset, or -1 when not every byte of the range is RAM
   */
  offsetOf(address: number, length: number): number;
}

/**
 * The RAM of a VM as devices see it. RAM is one mapping in this process, whose parts are at several
 * guest-physical addresses.
 */
export class RamView implements DeviceMemory, Disposable {
  readonly view: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly base: bigint;
  /** Guest-physical start, its end, and the offset of the start in the mapping, of each part. */
  readonly #parts: readonly (readonly [start: number, end: number, offset: number])[];

  /**
   * @param description of the memory, whose owner must outlive this object
   * @throws {TypeError} when its RAM is not one mapping
   */
  constructor(description: MemoryDescription) {
    const ram = description.slots.filter((slot) => !slot.readOnly);
    this.base = ram[0]?.address ?? 0n;
    let length = 0;
    this.#parts = ram.map(({ start, size, address }) => {
      if (address !== this.base + BigInt(length)) throw new TypeError("RAM is not one mapping");
      length += size;
      return [start, start + size, length - size] as const;
    });
    const buffer = bufferAt(this.base, length);
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /** See {@linkcode DeviceMemory.offsetOf}. */
  offsetOf(address: number, length: number): number {
    for (const [start, end, offset] of this.#parts) {
      if (address >= start && address + length <= end) return offset + (address - start);
    }
    return -1;
  }

  /** Detaches the views; the memory itself stays. */
  [Symbol.dispose](): void {
    if (!this.bytes.buffer.detached) this.bytes.buffer.transfer();
  }
}
