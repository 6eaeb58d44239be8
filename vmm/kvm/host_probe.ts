/**
 * Tells the two kinds of KVM apart by what they do, not by what they are called.
 *
 * A guest of twenty instructions goes to user mode and executes SYSCALL. Where a processor runs it,
 * the handler is in kernel mode and may read CR3; where KVM emulates kernels without hardware
 * support, SYSCALL leaves the privilege level as it was, and reading CR3 is a fault.
 *
 * @module
 */
import { libc } from "../../ffi/libc.ts";
import { KVM_EXIT_IO, KVM_RUN, kvm_run } from "../../ffi/uapi/kvm.ts";
import type { Kvm } from "./kvm.ts";
import type { SystemRegisters } from "./kvm_vcpu.ts";
import { PAGE_SIZE } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";

/** `hardware`: VT-x or AMD-V. `software`: guest kernels are emulated, as kvm_pvm does. */
export type HostKind = "hardware" | "software";

const KERNEL_CODE = 0x1000;
const USER_CODE = 0x1100;
const HANDLER = 0x1200;
const PML4 = 0x2000;
const PDPT = 0x3000;
const DIRECTORY = 0x4000;
const GDT = 0x5000;
const STACK = 0x8000;
const SIZE = 16 * PAGE_SIZE;

const KERNEL_CS = 0x08;
const KERNEL_SS = 0x10;
const SYSRET_BASE = 0x18; // SS = +8, CS = +16
const BEFORE = 0x10;
const AFTER = 0x11;
const MOST_EXITS = 16; // the guest has two

const KERNEL_PROGRAM = [
  ...[0x6a, 0x23], // push 0x23 (user SS)
  ...[0x68, 0x00, 0x80, 0x00, 0x00], // push 0x8000 (user RSP)
  ...[0x68, 0x02, 0x30, 0x00, 0x00], // push 0x3002 (user RFLAGS: I/O is allowed)
  ...[0x6a, 0x2b], // push 0x2b (user CS)
  ...[0x68, 0x00, 0x11, 0x00, 0x00], // push USER_CODE
  ...[0x48, 0xcf], // iretq
];
const USER_PROGRAM = [0x0f, 0x05]; // syscall
const HANDLER_PROGRAM = [
  ...[0xe6, BEFORE], // out BEFORE, al
  ...[0x0f, 0x20, 0xd8], // mov rax, cr3
  ...[0xe6, AFTER], // out AFTER, al
];

const PRESENT_WRITABLE_USER = 7n;
const LARGE = 1n << 7n;
const CODE = 0xb;
const DATA = 0x3;

const EFER_SCE_LME_LMA = 0x501n;
const CR0_PE_ET_PG = 0x8000_0011n;
const CR4_PAE = 0x20n;
const MSR_STAR = 0xc000_0081;
const MSR_LSTAR = 0xc000_0082;
const MSR_SYSCALL_MASK = 0xc000_0084;

function descriptor(type: number, dpl: number): bigint {
  const long = type === CODE ? 1 << 13 : 1 << 14;
  const flags = type | (1 << 4) | (dpl << 5) | (1 << 7) | (0xf << 8) | long | (1 << 15);
  return (BigInt(flags) << 40n) | 0xffffn;
}

function segment(selector: number, type: number): SystemRegisters["cs"] {
  return {
    base: 0n,
    limit: 0xffff_ffff,
    selector,
    type,
    present: 1,
    dpl: 0,
    db: type === CODE ? 0 : 1,
    s: 1,
    l: type === CODE ? 1 : 0,
    g: 1,
    avl: 0,
    unusable: 0,
    padding: 0,
  };
}

function prepare(memory: GuestMemory): void {
  memory.write(KERNEL_CODE, Uint8Array.from(KERNEL_PROGRAM));
  memory.write(USER_CODE, Uint8Array.from(USER_PROGRAM));
  memory.write(HANDLER, Uint8Array.from(HANDLER_PROGRAM));
  memory.setBigUint64(PML4, BigInt(PDPT) | PRESENT_WRITABLE_USER);
  memory.setBigUint64(PDPT, BigInt(DIRECTORY) | PRESENT_WRITABLE_USER);
  memory.setBigUint64(DIRECTORY, LARGE | PRESENT_WRITABLE_USER);
  const gdt = [0n, descriptor(CODE, 0), descriptor(DATA, 0), 0n, descriptor(DATA, 3)];
  [...gdt, descriptor(CODE, 3)].forEach((entry, i) => memory.setBigUint64(GDT + i * 8, entry));
}

/** Runs the guest once. */
export function probeHost(kvm: Kvm): HostKind {
  using stack = new DisposableStack();
  const memory = stack.use(GuestMemory.create(SIZE));
  const vm = stack.use(kvm.createVm());
  const slot = memory.description.slots[0]!;
  vm.setMemorySlot(0, slot);
  prepare(memory);
  const vcpu = stack.use(vm.createVcpu(0));
  vcpu.setCpuid(kvm.supportedCpuid());
  const data = segment(KERNEL_SS, DATA);
  vcpu.setSregs({
    ...vcpu.getSregs(),
    cs: segment(KERNEL_CS, CODE),
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    gdt: { base: BigInt(GDT), limit: 6 * 8 - 1, padding: [] },
    idt: { base: 0n, limit: 0, padding: [] },
    cr0: CR0_PE_ET_PG,
    cr3: BigInt(PML4),
    cr4: CR4_PAE,
    efer: EFER_SCE_LME_LMA,
  });
  vcpu.setMsrs([
    { index: MSR_STAR, value: (BigInt(SYSRET_BASE) << 48n) | (BigInt(KERNEL_CS) << 32n) },
    { index: MSR_LSTAR, value: BigInt(HANDLER) },
    { index: MSR_SYSCALL_MASK, value: 0n },
  ]);
  vcpu.setRegs({ rip: BigInt(KERNEL_CODE), rsp: BigInt(STACK), rflags: 2n });

  const run = new DataView(vcpu.run.buffer);
  const ports: number[] = [];
  for (let exits = 0; exits < MOST_EXITS; exits++) {
    if (libc().ioctl_number(vcpu.fd, KVM_RUN.request, 0n) < 0) break;
    if (run.getUint32(kvm_run.offsets.exit_reason, true) !== KVM_EXIT_IO) break;
    ports.push(run.getUint16(kvm_run.offsetOf("exit.io.port"), true));
    if (ports.includes(AFTER)) return "hardware";
  }
  return "software";
}

let known: HostKind | undefined;

/** The kind of this host; probed once in a process. */
export function hostKind(kvm: Kvm): HostKind {
  return known ??= probeHost(kvm);
}
