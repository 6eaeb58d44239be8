/**
 * Copies and fills memory for a kernel that is emulated, where each iteration of a string instruction
 * takes microseconds (builder/kernel/patches, 0008). The kernel writes to a port where it has said
 * what is to be done:
 *
 * ```text
 * struct host_strings, little-endian, aligned to its size
 *  0  to     linear address
 *  8  from   linear address, or the byte to fill with
 * 16  count  bytes; those that were done are taken off
 * 24  cr3    root of the page tables
 * ```
 *
 * @module
 */
import { GuestAddressError, type GuestMemory } from "../memory/guest_memory.ts";
import { EntryChanged, PageFault, translate } from "./page_walk.ts";

/** Bytes of a struct host_strings. */
export const STRINGS_SIZE = 32;
/** Most bytes that are done at once: a thread may have other guests' processors, too. */
export const STRINGS_LIMIT = 1024 * 1024;

const LE = true;
const PAGE = 4096;
const CR0_WP = 1n << 16n;

/** What is done. */
export type StringOperation = "copy" | "fill";

/**
 * Does as much as can be done without a page fault; the rest is left to the guest.
 *
 * @param memory the guest's
 * @param where the value that was written to the port: the address of the struct by its size
 */
export function doString(memory: GuestMemory, operation: StringOperation, where: number): void {
  const area = where * STRINGS_SIZE;
  if (!memory.contains(area, STRINGS_SIZE)) return;
  const request = memory.read(area, STRINGS_SIZE);
  const view = new DataView(request.buffer);
  const to = view.getBigUint64(0, LE);
  const from = view.getBigUint64(8, LE);
  const count = view.getBigUint64(16, LE);
  const paging = { cr0: CR0_WP, cr3: view.getBigUint64(24, LE), cr4: 0n };
  const total = Number(count < BigInt(STRINGS_LIMIT) ? count : BigInt(STRINGS_LIMIT));
  let done = 0;
  try {
    while (done < total) {
      const at = BigInt.asUintN(64, to + BigInt(done));
      let length = Math.min(total - done, PAGE - Number(at % BigInt(PAGE)));
      if (operation === "copy") {
        const source = BigInt.asUintN(64, from + BigInt(done));
        length = Math.min(length, PAGE - Number(source % BigInt(PAGE)));
        const bytes = memory.read(
          translate(memory, paging, source, { write: false, user: false }),
          length,
        );
        memory.write(translate(memory, paging, at, { write: true, user: false }), bytes);
      } else {
        const physical = translate(memory, paging, at, { write: true, user: false });
        memory.lend(physical, length, (bytes) => bytes.fill(Number(from & 0xffn)));
      }
      done += length;
    }
  } catch (error) {
    // The guest goes on by itself: with the fault, or where no memory is.
    if (
      !(error instanceof PageFault || error instanceof GuestAddressError ||
        error instanceof EntryChanged)
    ) throw error;
  }
  memory.setBigUint64(area + 16, count - BigInt(done));
}
