/**
 * What answers the guest's memory-mapped I/O, in place, in the vCPU's thread.
 *
 * A device's front half is made anew in every vCPU thread from a {@linkcode MmioRegion}, which is
 * structured-clonable; what the threads share is in its SharedArrayBuffer.
 *
 * @module
 */
import type { Stall } from "./stall.ts";
/** Registers of one device. */
export interface MmioDevice {
  /**
   * The guest reads.
   *
   * @param offset from the region's start
   * @param data where the answer goes, little-endian; 1, 2, 4 or 8 bytes, zero beforehand
   */
  read(offset: number, data: DataView): void;
  /**
   * The guest writes.
   *
   * @param offset from the region's start
   * @param data what it writes, little-endian; 1, 2, 4 or 8 bytes
   * @returns what the vCPU has to wait for before it goes on
   */
  write(offset: number, data: DataView): Stall | undefined;
}

/** A device's place on the bus, and what makes its front half. */
export interface MmioRegion {
  /** First guest-physical address. */
  readonly base: number;
  /** Bytes. */
  readonly size: number;
  /** Its interrupt line of the IOAPIC. */
  readonly irq: number;
  /** State that all threads share. */
  readonly shared: SharedArrayBuffer;
  /** Descriptors that the front half uses, by name, such as the eventfd of its interrupt. */
  readonly fds: Readonly<Record<string, number>>;
}

interface Attached {
  readonly base: number;
  readonly end: number;
  readonly device: MmioDevice;
}

/** Dispatches accesses to the devices of one VM. */
export class MmioBus {
  readonly #devices: Attached[] = [];
  /** Accesses that no device answered; a guest that probes is no error. */
  unanswered = 0;

  /** Puts a device on the bus; ranges must not overlap. */
  attach(region: Pick<MmioRegion, "base" | "size">, device: MmioDevice): void {
    const end = region.base + region.size;
    for (const other of this.#devices) {
      if (region.base < other.end && other.base < end) {
        throw new RangeError(
          `Cannot attach a device at 0x${region.base.toString(16)}: another one is there`,
        );
      }
    }
    this.#devices.push({ base: region.base, end, device });
  }

  /** Answers a read; what no device answers reads as all ones, as on a PC's bus. */
  read(address: number, data: DataView): void {
    const found = this.#find(address, data.byteLength);
    for (let i = 0; i < data.byteLength; i++) data.setUint8(i, found === undefined ? 0xff : 0);
    if (found === undefined) this.unanswered++;
    else found.device.read(address - found.base, data);
  }

  /** Answers a write; see {@linkcode MmioDevice.write}. */
  write(address: number, data: DataView): Stall | undefined {
    const found = this.#find(address, data.byteLength);
    if (found !== undefined) return found.device.write(address - found.base, data);
    this.unanswered++;
    return undefined;
  }

  #find(address: number, length: number): Attached | undefined {
    for (const entry of this.#devices) {
      if (address >= entry.base && address + length <= entry.end) return entry;
    }
    return undefined;
  }
}
