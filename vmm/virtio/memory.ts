/**
 * What devices see of the guest's memory: one mapping and one bounds check.
 *
 * @module
 */
import { HostMemory } from "../../ffi/host_memory.ts";
import type { MemoryDescription } from "../memory/guest_memory.ts";

/**
 * Guest RAM as a device may touch it, by offset. Everything that a guest names goes through
 * {@linkcode DeviceMemory.offsetOf} before it is used.
 */
export interface DeviceMemory extends Pick<HostMemory, "read" | "write" | "window" | "release"> {
  /** Host virtual address of the byte at offset 0. */
  readonly base: bigint;
  /**
   * Where a range of guest-physical memory is among the VM's RAM.
   *
   * @param address guest-physical address of the first byte
   * @param length in bytes; 0 is allowed
   * @returns the offset in bytes, or -1 when not every byte of the range is RAM
   */
  offsetOf(address: number, length: number): number;
}

/**
 * The RAM of a VM as devices see it. RAM is one mapping in this process, whose parts are at several
 * guest-physical addresses.
 */
export class RamView extends HostMemory implements DeviceMemory {
  /** Guest-physical start, its end, and the offset of the start in the mapping, of each part. */
  readonly #parts: readonly (readonly [start: number, end: number, offset: number])[];

  /**
   * @param description of the memory, whose owner must outlive this object
   * @throws {TypeError} when its RAM is not one mapping
   */
  constructor(description: MemoryDescription) {
    const ram = description.slots.filter((slot) => !slot.readOnly);
    const base = ram[0]?.address ?? 0n;
    let length = 0;
    const parts = ram.map(({ start, size, address }) => {
      const offset = length;
      if (address !== base + BigInt(offset)) throw new TypeError("RAM is not one mapping");
      length += size;
      return [start, start + size, offset] as const;
    });
    super(base, length);
    this.#parts = parts;
  }

  /** See {@linkcode DeviceMemory.base}. */
  get base(): bigint {
    return this.address;
  }

  /** See {@linkcode DeviceMemory.offsetOf}. */
  offsetOf(address: number, length: number): number {
    for (const [start, end, offset] of this.#parts) {
      if (address >= start && address + length <= end) return offset + (address - start);
    }
    return -1;
  }
}
