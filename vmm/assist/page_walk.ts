/**
 * Walks the guest's page tables as its processor would: Intel SDM volume 3, 4.5 (4-level and
 * 5-level paging). KVM_TRANSLATE does not do, since it ignores the write permission: a kernel that
 * stores to a copy-on-write page has to get its page fault.
 *
 * @module
 */
import type { GuestMemory } from "../memory/guest_memory.ts";

/** What the walk has to know of the processor. */
export interface PagingState {
  /** Control register. */
  readonly cr0: bigint;
  /** Control register: the root of the tables. */
  readonly cr3: bigint;
  /** Control register. */
  readonly cr4: bigint;
}

/** How memory is accessed. */
export interface Access {
  /** Whether it is a store. */
  readonly write: boolean;
  /** Whether it comes from user mode. */
  readonly user: boolean;
}

/** Where page tables are. */
export type TableMemory = Pick<GuestMemory, "getBigUint64" | "lend">;

/** The processor would raise #PF. */
export class PageFault extends Error {
  override readonly name = "PageFault";
  /** For CR2. */
  readonly address: bigint;
  /** Error code: present, write, user. */
  readonly errorCode: number;

  /**
   * @param address linear address
   * @param errorCode what the handler finds on its stack
   */
  constructor(address: bigint, errorCode: number) {
    super(`page fault at 0x${address.toString(16)}, error code ${errorCode}`);
    this.address = address;
    this.errorCode = errorCode;
  }
}

/** Another processor changed an entry again and again while the walk was to mark it. */
export class EntryChanged extends Error {
  override readonly name = "EntryChanged";
}

/** How often a walk begins anew: a guest may change its tables all the time to keep a thread here. */
const MAX_WALKS = 64;

const CR0_WP = 1n << 16n;
const CR4_LA57 = 1n << 12n;
const PRESENT = 1n << 0n;
const WRITABLE = 1n << 1n;
const USER = 1n << 2n;
const ACCESSED = 1n << 5n;
const DIRTY = 1n << 6n;
const LARGE = 1n << 7n;
const FRAME = 0x000f_ffff_ffff_f000n;
const PF_PRESENT = 1;
const PF_WRITE = 2;
const PF_USER = 4;

/**
 * Translates a linear address and sets the accessed and dirty bits.
 *
 * @returns guest-physical address
 * @throws {PageFault} when the access is not allowed
 * @throws {GuestAddressError} when a table is where no memory is
 * @throws {EntryChanged} when another processor changes the tables so often that it may go on for ever
 */
export function translate(
  memory: TableMemory,
  state: PagingState,
  linear: bigint,
  access: Access,
): number {
  for (let walks = 0; walks < MAX_WALKS; walks++) {
    const physical = walk(memory, state, linear, access);
    if (physical !== undefined) return physical;
  }
  throw new EntryChanged("the page tables change all the time");
}

/** One walk; undefined when an entry was another one when it was to be marked. */
function walk(
  memory: TableMemory,
  state: PagingState,
  linear: bigint,
  access: Access,
): number | undefined {
  const fault = (present: number) =>
    new PageFault(
      linear,
      present | (access.write ? PF_WRITE : 0) | (access.user ? PF_USER : 0),
    );
  const needsWritable = access.write && (access.user || (state.cr0 & CR0_WP) !== 0n);
  let table = state.cr3 & FRAME;
  for (let level = (state.cr4 & CR4_LA57) !== 0n ? 5 : 4; level >= 1; level--) {
    const shift = BigInt(12 + 9 * (level - 1));
    const address = Number(table + ((linear >> shift) & 0x1ffn) * 8n);
    const entry = memory.getBigUint64(address);
    if ((entry & PRESENT) === 0n) throw fault(0);
    if (needsWritable && (entry & WRITABLE) === 0n) throw fault(PF_PRESENT);
    if (access.user && (entry & USER) === 0n) throw fault(PF_PRESENT);
    const leaf = level === 1 || (entry & LARGE) !== 0n && level <= 3;
    const marks = ACCESSED | (leaf && access.write ? DIRTY : 0n);
    if ((entry & marks) !== marks) {
      // Another processor may have changed the entry since it was read above: a kernel that has taken
      // a page away would find marks in an entry that is empty. A processor compares and exchanges.
      const marked = memory.lend(
        address,
        8,
        ({ buffer }) =>
          Atomics.compareExchange(new BigUint64Array(buffer), 0, entry, entry | marks) === entry,
      );
      if (!marked) return undefined;
    }
    if (leaf) {
      const offsetMask = (1n << shift) - 1n;
      return Number((entry & FRAME & ~offsetMask) | (linear & offsetMask));
    }
    table = entry & FRAME;
  }
  throw fault(0); // not reached: level 1 is always a leaf
}
