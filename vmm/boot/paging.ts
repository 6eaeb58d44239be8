/**
 * The state in which the 64-bit boot protocol enters the kernel: identity page tables, a flat GDT
 * and the registers (Documentation/x86/boot.rst, "64-bit Boot Protocol").
 *
 * @module
 */
import {
  BOOT_PARAMS_ADDRESS,
  GDT_ADDRESS,
  GIB,
  IDT_ADDRESS,
  MIB,
  PAGE_SIZE,
  PAGE_TABLES_ADDRESS,
} from "../layout.ts";
import type { KvmVcpu, SystemRegisters } from "../kvm/kvm_vcpu.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";

const PRESENT = 1n << 0n;
const WRITABLE = 1n << 1n;
const LARGE = 1n << 7n;
const ENTRIES = 512;
/** "the page tables must map the kernel, boot_params and the command line": all below 4 GiB. */
const MAPPED_GIB = 4;

const CR0_PE = 1n << 0n;
const CR0_ET = 1n << 4n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const RFLAGS_RESERVED = 1n << 1n;

/** boot.rst: "__BOOT_CS must have execute/read permission", selector 0x10. */
const BOOT_CS = 2;
/** boot.rst: "__BOOT_DS must have read/write permission", selector 0x18. */
const BOOT_DS = 3;
const BOOT_TSS = 4;

interface Descriptor {
  readonly type: number;
  readonly s: number;
  readonly l: number;
  readonly db: number;
}

const CODE: Descriptor = { type: 0xb, s: 1, l: 1, db: 0 }; // execute, read, accessed
const DATA: Descriptor = { type: 0x3, s: 1, l: 0, db: 1 }; // read, write, accessed
const TSS: Descriptor = { type: 0xb, s: 0, l: 0, db: 0 }; // busy TSS

/** A flat descriptor of 4 GiB: Intel SDM volume 3, 3.4.5. */
function encode({ type, s, l, db }: Descriptor): bigint {
  const flags = type | (s << 4) | (1 << 7) | (0xf << 8) | (l << 13) | (db << 14) | (1 << 15);
  return (BigInt(flags) << 40n) | 0xffffn;
}

function segment(index: number, { type, s, l, db }: Descriptor): SystemRegisters["cs"] {
  return {
    base: 0n,
    limit: 0xffff_ffff,
    selector: index * 8,
    type,
    present: 1,
    dpl: 0,
    db,
    s,
    l,
    g: 1,
    avl: 0,
    unusable: 0,
    padding: 0,
  };
}

/** Maps the first 4 GiB one to one with 2 MiB pages, and writes the GDT. */
export function writeBootTables(memory: GuestMemory): void {
  const pml4 = PAGE_TABLES_ADDRESS;
  const pdpt = pml4 + PAGE_SIZE;
  const firstDirectory = pdpt + PAGE_SIZE;
  memory.setBigUint64(pml4, BigInt(pdpt) | PRESENT | WRITABLE);
  for (let gib = 0; gib < MAPPED_GIB; gib++) {
    const directory = firstDirectory + gib * PAGE_SIZE;
    memory.setBigUint64(pdpt + gib * 8, BigInt(directory) | PRESENT | WRITABLE);
    for (let i = 0; i < ENTRIES; i++) {
      const address = BigInt(gib * GIB + i * 2 * MIB);
      memory.setBigUint64(directory + i * 8, address | PRESENT | WRITABLE | LARGE);
    }
  }
  const gdt = [0n, 0n, encode(CODE), encode(DATA), encode(TSS)];
  gdt.forEach((entry, i) => memory.setBigUint64(GDT_ADDRESS + i * 8, entry));
  memory.setBigUint64(IDT_ADDRESS, 0n);
}

/** Sets the registers of the boot processor. */
export function setBootRegisters(vcpu: KvmVcpu, entry: number): void {
  const sregs = vcpu.getSregs();
  const data = segment(BOOT_DS, DATA);
  vcpu.setSregs({
    ...sregs,
    cs: segment(BOOT_CS, CODE),
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    tr: segment(BOOT_TSS, TSS),
    gdt: { base: BigInt(GDT_ADDRESS), limit: 5 * 8 - 1, padding: [] },
    idt: { base: BigInt(IDT_ADDRESS), limit: 7, padding: [] },
    cr0: CR0_PE | CR0_ET | CR0_PG,
    cr3: BigInt(PAGE_TABLES_ADDRESS),
    cr4: CR4_PAE,
    efer: EFER_LME | EFER_LMA,
  });
  vcpu.setRegs({
    rip: BigInt(entry),
    rsi: BigInt(BOOT_PARAMS_ADDRESS), // "%rsi must hold the base address of the struct boot_params"
    rflags: RFLAGS_RESERVED, // "Interrupts must be disabled"
  });
}
