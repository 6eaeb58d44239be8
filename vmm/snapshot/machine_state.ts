/**
 * What KVM knows of a VM, as pieces of a state file and back.
 *
 * The order of restoring matters (Documentation/virt/kvm/api.rst): the local APIC's base is in
 * sregs, so that they come before its registers; the APIC timer's deadline is relative to the TSC
 * and ignored unless the APIC's timer is in that mode, so that it is the last MSR; events are last
 * of all, since other calls clear them. kvm-clock is set when every processor has its TSC.
 *
 * @module
 */
import { SyscallError } from "../../ffi/errno.ts";
import { check, ioctlBytes, libc } from "../../ffi/libc.ts";
import type { Ioctl } from "../../ffi/ioctl.ts";
import {
  KVM_CAP_XCRS,
  kvm_clock_data,
  KVM_GET_DEBUGREGS,
  KVM_GET_LAPIC,
  KVM_GET_MP_STATE,
  KVM_GET_PIT2,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  kvm_irqchip,
  KVM_SET_DEBUGREGS,
  KVM_SET_LAPIC,
  KVM_SET_MP_STATE,
  KVM_SET_MSRS,
  KVM_SET_PIT2,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XCRS,
} from "../../ffi/uapi/kvm.ts";
import {
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  kvm_msr_entry,
  kvm_msrs,
} from "../../ffi/uapi/kvm_x86.ts";
import type { Kvm, KvmVm } from "../kvm/kvm.ts";
import type { KvmVcpu, Msr } from "../kvm/kvm_vcpu.ts";
import { piece, type Pieces, refuse } from "./format.ts";

const MSR_IA32_TSC = 0x10;
const MSR_IA32_TSC_DEADLINE = 0x6e0;
const MAX_TSC_KHZ = 2 ** 31 - 1;
/**
 * Linux, arch/x86/kvm/x86.c, kvm_synchronize_tsc(): a TSC within a second of what the VM's is by now
 * is taken for an attempt to synchronize a processor with the others, and the VM's is kept. So the
 * first processor gets one that is far away, then its own; the others are to be synchronized.
 */
const FAR_TSC: Msr = { index: MSR_IA32_TSC, value: 1n << 62n };

const CHIPS = [
  ["vm.pic0", KVM_IRQCHIP_PIC_MASTER],
  ["vm.pic1", KVM_IRQCHIP_PIC_SLAVE],
  ["vm.ioapic", KVM_IRQCHIP_IOAPIC],
] as const;

/** Something that one ioctl reads and another one writes, byte for byte. */
interface Part {
  readonly name: string;
  readonly get: Ioctl<unknown>;
  readonly set: Ioctl<unknown>;
}

const PIT: Part = { name: "pit", get: KVM_GET_PIT2, set: KVM_SET_PIT2 };
/** Of a processor, in the order of restoring; in between come xsave and the MSRs, which vary in size. */
const FIRST: readonly Part[] = [
  { name: "mp", get: KVM_GET_MP_STATE, set: KVM_SET_MP_STATE },
  { name: "regs", get: KVM_GET_REGS, set: KVM_SET_REGS },
  { name: "sregs", get: KVM_GET_SREGS, set: KVM_SET_SREGS },
];
const XCRS: Part = { name: "xcrs", get: KVM_GET_XCRS, set: KVM_SET_XCRS };
const THEN: readonly Part[] = [
  { name: "debug", get: KVM_GET_DEBUGREGS, set: KVM_SET_DEBUGREGS },
  { name: "lapic", get: KVM_GET_LAPIC, set: KVM_SET_LAPIC },
];
const LAST: Part = { name: "events", get: KVM_GET_VCPU_EVENTS, set: KVM_SET_VCPU_EVENTS };

type Bytes = Uint8Array<ArrayBuffer>;

/** Reads parts into pieces, or writes pieces to parts: the ioctls take the bytes as they are. */
class Parts {
  /** @param prefix of the pieces' names */
  constructor(readonly fd: number, readonly prefix: string) {}

  read({ name, get }: Part, pieces: Map<string, Bytes>): void {
    const bytes = new Uint8Array(get.type!.size);
    ioctlBytes(this.fd, get, bytes);
    pieces.set(this.prefix + name, bytes);
  }

  write({ name, set }: Part, pieces: Pieces): void {
    ioctlBytes(this.fd, set, piece(pieces, this.prefix + name, set.type!.size));
  }
}

/** The MSRs that KVM says have to be saved; some of them, a host may refuse to read. */
function readMsrs(vcpu: KvmVcpu, indices: readonly number[]): Msr[] {
  const msrs: Msr[] = [];
  for (let rest = indices; rest.length > 0;) {
    const some = vcpu.getMsrs(rest);
    msrs.push(...some);
    rest = rest.slice(some.length + 1); // the one that stopped it is left out
  }
  return msrs;
}

/** As struct kvm_msrs with its entries, which {@linkcode KVM_SET_MSRS} takes as it is. */
function encodeMsrs(msrs: readonly Msr[]): Bytes {
  const result = new Uint8Array(kvm_msrs.size + msrs.length * kvm_msr_entry.size);
  const view = new DataView(result.buffer);
  kvm_msrs.update(view, 0, { nmsrs: msrs.length });
  msrs.forEach(({ index, value }, i) => {
    kvm_msr_entry.update(view, kvm_msrs.size + i * kvm_msr_entry.size, { index, data: value });
  });
  return result;
}

function writeMsrs(vcpu: KvmVcpu, bytes: Bytes): void {
  if (bytes.length < kvm_msrs.size) throw refuse("its MSRs have another size");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const room = (bytes.length - kvm_msrs.size) / kvm_msr_entry.size;
  const { nmsrs } = kvm_msrs.get(view, 0);
  if (room !== nmsrs) throw refuse("its MSRs have another size");
  let rest = bytes;
  for (let set = 0; set < nmsrs;) {
    set += ioctlBytes(vcpu.fd, KVM_SET_MSRS, rest);
    if (set >= nmsrs) return;
    // Read-only ones are refused, which is right as long as this host has the same value.
    const refused = kvm_msr_entry.get(view, kvm_msrs.size + set * kvm_msr_entry.size);
    if (vcpu.getMsrs([refused.index])[0]?.value !== refused.data) {
      throw refuse(`this KVM does not take the MSR 0x${refused.index.toString(16)}`);
    }
    set++;
    rest = new Uint8Array(bytes.length - set * kvm_msr_entry.size);
    rest.set(bytes.subarray(kvm_msrs.size + set * kvm_msr_entry.size), kvm_msrs.size);
    kvm_msrs.update(new DataView(rest.buffer), 0, { nmsrs: nmsrs - set });
  }
}

function u32(value: number): Bytes {
  const result = new Uint8Array(4);
  new DataView(result.buffer).setUint32(0, value, true);
  return result;
}

function fromU32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

/**
 * What {@linkcode restoreMachine} needs of processors that have never run and no snapshot has a say in:
 * it takes as long as the rest of them, so it is done beforehand.
 */
export function prepareMachine(vcpus: readonly KvmVcpu[]): void {
  vcpus[0]!.setMsrs([FAR_TSC]);
}

/** Reads everything; the processors are paused. */
export function saveMachine(
  kvm: Kvm,
  vm: KvmVm,
  vcpus: readonly KvmVcpu[],
): Map<string, Bytes> {
  const pieces = new Map<string, Bytes>();
  const clock = vm.getClock();
  pieces.set("vm.clock", kvm_clock_data.encode({ ...clock, realtime: hostTime() }));
  for (const [name, chip] of CHIPS) pieces.set(name, vm.getIrqchip(chip));
  new Parts(vm.fd, "vm.").read(PIT, pieces);
  const indices = kvm.msrIndexList().filter((index) => index !== MSR_IA32_TSC_DEADLINE);
  indices.sort((a, b) => Number(b === MSR_IA32_TSC) - Number(a === MSR_IA32_TSC));
  const xcrs = kvm.capability(KVM_CAP_XCRS) !== 0 ? [XCRS] : [];
  for (const vcpu of vcpus) {
    const prefix = `vcpu${vcpu.id}.`;
    const parts = new Parts(vcpu.fd, prefix);
    for (const part of [...FIRST, ...xcrs, ...THEN, LAST]) parts.read(part, pieces);
    pieces.set(`${prefix}xsave`, vcpu.getXsave());
    const msrs = [...readMsrs(vcpu, indices), ...vcpu.getMsrs([MSR_IA32_TSC_DEADLINE])];
    pieces.set(`${prefix}msrs`, encodeMsrs(msrs));
    pieces.set(`${prefix}tsc`, u32(vcpu.getTscKhz()));
  }
  return pieces;
}

/**
 * The inverse, into a VM of as many processors that have their CPUID and have never run. It takes a
 * fraction of a millisecond, since nothing is decoded.
 *
 * @returns kvm-clock as it was set, and when
 * @throws {CloudletError} `untrusted` when a piece is missing or does not fit this host
 */
export function restoreMachine(
  vm: KvmVm,
  vcpus: readonly KvmVcpu[],
  pieces: Pieces,
): ClockPair {
  try {
    return setMachine(vm, vcpus, pieces);
  } catch (cause) {
    // What KVM says to a value that there is not, and to more of them than it takes.
    if (!(cause instanceof SyscallError) || !["EINVAL", "E2BIG"].includes(cause.code)) throw cause;
    throw refuse(`this KVM does not take a part of it (${cause.op})`, cause);
  }
}

function setMachine(vm: KvmVm, vcpus: readonly KvmVcpu[], pieces: Pieces): ClockPair {
  for (const vcpu of vcpus) {
    const prefix = `vcpu${vcpu.id}.`;
    const parts = new Parts(vcpu.fd, prefix);
    const khz = fromU32(piece(pieces, `${prefix}tsc`, 4));
    // KVM takes any, and tells it as an int: what is above would be an error.
    if (khz > MAX_TSC_KHZ) throw refuse(`its TSC has ${khz} kHz`);
    if (khz !== vcpu.getTscKhz()) vcpu.setTscKhz(khz);
    for (const part of FIRST) parts.write(part, pieces);
    if (pieces.has(`${prefix}xcrs`)) parts.write(XCRS, pieces);
    vcpu.setXsave(piece(pieces, `${prefix}xsave`, vcpu.xsaveBytes));
    for (const part of THEN) parts.write(part, pieces);
    writeMsrs(vcpu, piece(pieces, `${prefix}msrs`));
    parts.write(LAST, pieces);
  }
  for (const [name] of CHIPS) vm.setIrqchip(piece(pieces, name, kvm_irqchip.size));
  new Parts(vm.fd, "vm.").write(PIT, pieces);
  const { clock } = clockPair(pieces);
  vm.setClock(clock);
  return { clock, wall: hostTime() };
}

/** kvm-clock and the host's wall clock at one moment, in nanoseconds. */
export interface ClockPair {
  readonly clock: bigint;
  readonly wall: bigint;
}

/** The clocks when the snapshot was made. */
export function clockPair(pieces: Pieces): ClockPair {
  const data = kvm_clock_data.decode(piece(pieces, "vm.clock", kvm_clock_data.size));
  return { clock: data.clock, wall: data.realtime };
}

const CLOCK_REALTIME = 0;

/** In nanoseconds since 1970; not every KVM tells it with its clock. */
function hostTime(): bigint {
  const timespec = new BigInt64Array(2);
  check("clock_gettime", libc().clock_gettime(CLOCK_REALTIME, new Uint8Array(timespec.buffer)));
  return timespec[0]! * 1_000_000_000n + timespec[1]!;
}
