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
import { check, libc } from "../../ffi/libc.ts";
import { KVM_CAP_XCRS, kvm_clock_data } from "../../ffi/uapi/kvm.ts";
import {
  kvm_debugregs,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
  kvm_msr_entry,
  kvm_pit_state2,
  kvm_regs,
  kvm_sregs,
  kvm_vcpu_events,
  kvm_xcrs,
} from "../../ffi/uapi/kvm_x86.ts";
import type { Kvm, KvmVcpu, KvmVm, Msr } from "../kvm.ts";
import { piece, type Pieces, refuse } from "./format.ts";

const MSR_IA32_TSC = 0x10;
const MSR_IA32_TSC_DEADLINE = 0x6e0;
const MAX_TSC_KHZ = 2 ** 31 - 1;

const CHIPS = [
  ["vm.pic0", KVM_IRQCHIP_PIC_MASTER],
  ["vm.pic1", KVM_IRQCHIP_PIC_SLAVE],
  ["vm.ioapic", KVM_IRQCHIP_IOAPIC],
] as const;

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

function writeMsrs(vcpu: KvmVcpu, msrs: readonly Msr[]): void {
  for (let rest = msrs; rest.length > 0;) {
    const count = vcpu.setMsrs(rest);
    const refused = rest[count];
    if (refused === undefined) return;
    // Read-only ones are refused, which is right as long as this host has the same value.
    if (vcpu.getMsrs([refused.index])[0]?.value !== refused.value) {
      throw refuse(`this KVM does not take the MSR 0x${refused.index.toString(16)}`);
    }
    rest = rest.slice(count + 1);
  }
}

function encodeMsrs(msrs: readonly Msr[]): Uint8Array<ArrayBuffer> {
  const { size } = kvm_msr_entry;
  const result = new Uint8Array(msrs.length * size);
  const view = new DataView(result.buffer);
  msrs.forEach(({ index, value }, i) => {
    kvm_msr_entry.update(view, i * size, { index, data: value });
  });
  return result;
}

function decodeMsrs(bytes: Uint8Array): Msr[] {
  const { size } = kvm_msr_entry;
  if (bytes.length % size !== 0) throw refuse("its MSRs have another size");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / size }, (_, i) => {
    const entry = kvm_msr_entry.get(view, i * size);
    return { index: entry.index, value: entry.data };
  });
}

function u32(value: number): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(4);
  new DataView(result.buffer).setUint32(0, value, true);
  return result;
}

function fromU32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

/** Reads everything; the processors are paused. */
export function saveMachine(
  kvm: Kvm,
  vm: KvmVm,
  vcpus: readonly KvmVcpu[],
): Map<string, Uint8Array<ArrayBuffer>> {
  const pieces = new Map<string, Uint8Array<ArrayBuffer>>();
  const clock = vm.getClock();
  pieces.set("vm.clock", kvm_clock_data.encode({ ...clock, ...hostClocks() }));
  for (const [name, chip] of CHIPS) pieces.set(name, vm.getIrqchip(chip));
  pieces.set("vm.pit", kvm_pit_state2.encode(vm.getPit()));
  const indices = kvm.msrIndexList().filter((index) => index !== MSR_IA32_TSC_DEADLINE);
  indices.sort((a, b) => Number(b === MSR_IA32_TSC) - Number(a === MSR_IA32_TSC));
  const xcrs = kvm.capability(KVM_CAP_XCRS) !== 0;
  for (const vcpu of vcpus) {
    const set = (what: string, bytes: Uint8Array<ArrayBuffer>) =>
      pieces.set(`vcpu${vcpu.id}.${what}`, bytes);
    set("mp", u32(vcpu.getMpState()));
    set("regs", kvm_regs.encode(vcpu.getRegs()));
    set("sregs", kvm_sregs.encode(vcpu.getSregs()));
    set("xsave", vcpu.getXsave());
    if (xcrs) set("xcrs", kvm_xcrs.encode(vcpu.getXcrs()));
    set("debug", kvm_debugregs.encode(vcpu.getDebugregs()));
    set("lapic", vcpu.getLapic());
    set("msrs", encodeMsrs([...readMsrs(vcpu, indices), ...vcpu.getMsrs([MSR_IA32_TSC_DEADLINE])]));
    set("events", kvm_vcpu_events.encode(vcpu.getEvents()));
    set("tsc", u32(vcpu.getTscKhz()));
  }
  return pieces;
}

/**
 * The inverse, into a VM of as many processors that have their CPUID and have never run.
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
    const get = (what: string, length?: number) => piece(pieces, `vcpu${vcpu.id}.${what}`, length);
    const khz = fromU32(get("tsc", 4));
    // KVM takes any, and tells it as an int: what is above would be an error.
    if (khz > MAX_TSC_KHZ) throw refuse(`its TSC has ${khz} kHz`);
    if (khz !== vcpu.getTscKhz()) vcpu.setTscKhz(khz);
    vcpu.setMpState(fromU32(get("mp", 4)));
    vcpu.setRegs(kvm_regs.decode(get("regs", kvm_regs.size)));
    vcpu.setSregs(kvm_sregs.decode(get("sregs", kvm_sregs.size)));
    if (pieces.has(`vcpu${vcpu.id}.xcrs`)) {
      vcpu.setXcrs(kvm_xcrs.decode(get("xcrs", kvm_xcrs.size)));
    }
    vcpu.setXsave(get("xsave", vcpu.getXsave().length).slice());
    vcpu.setDebugregs(kvm_debugregs.decode(get("debug", kvm_debugregs.size)));
    vcpu.setLapic(get("lapic", 0x400).slice());
    writeMsrs(vcpu, decodeMsrs(get("msrs")));
    vcpu.setEvents(kvm_vcpu_events.decode(get("events", kvm_vcpu_events.size)));
  }
  for (const [name] of CHIPS) vm.setIrqchip(piece(pieces, name, IRQCHIP_BYTES).slice());
  vm.setPit(kvm_pit_state2.decode(piece(pieces, "vm.pit", kvm_pit_state2.size)));
  const { clock } = clockPair(pieces);
  vm.setClock(clock);
  const { realtime, host_tsc } = hostClocks();
  return { clock, wall: realtime, running: host_tsc };
}

const IRQCHIP_BYTES = 520; // struct kvm_irqchip

/** kvm-clock and the host's clocks at one moment, in nanoseconds. */
export interface ClockPair {
  readonly clock: bigint;
  /** Since the host's start, unaffected by what disciplines its clock. */
  readonly running: bigint;
  readonly wall: bigint;
}

/** The clocks when the snapshot was made. */
export function clockPair(pieces: Pieces): ClockPair {
  const data = kvm_clock_data.decode(piece(pieces, "vm.clock", kvm_clock_data.size));
  return { clock: data.clock, wall: data.realtime, running: data.host_tsc };
}

const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC_RAW = 4;

function hostClock(id: number): bigint {
  const timespec = new BigInt64Array(2);
  check("clock_gettime", libc().clock_gettime(id, new Uint8Array(timespec.buffer)));
  return timespec[0]! * 1_000_000_000n + timespec[1]!;
}

/** In the members of struct kvm_clock_data that not every KVM fills. */
function hostClocks(): { realtime: bigint; host_tsc: bigint } {
  return { realtime: hostClock(CLOCK_REALTIME), host_tsc: hostClock(CLOCK_MONOTONIC_RAW) };
}
