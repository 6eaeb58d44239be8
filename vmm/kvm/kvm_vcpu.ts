/**
 * A vCPU's descriptor with the ioctls that it answers. The numbers in the comments are sections of
 * Documentation/virt/kvm/api.rst.
 *
 * @module
 */
import type { OwnedFd } from "../../ffi/fd.ts";
import { ioctl, ioctlBytes, ioctlGet, ioctlSet } from "../../ffi/libc.ts";
import type { Mapping } from "../../ffi/mapping.ts";
import type { ValueOf } from "../../ffi/struct.ts";
import {
  KVM_GET_MP_STATE,
  KVM_GET_MSRS,
  KVM_GET_REGS,
  KVM_GET_SREGS,
  KVM_GET_TSC_KHZ,
  KVM_GET_VCPU_EVENTS,
  KVM_GET_XCRS,
  KVM_GET_XSAVE,
  KVM_GET_XSAVE2,
  KVM_SET_CPUID2,
  KVM_SET_MSRS,
  KVM_SET_REGS,
  KVM_SET_SREGS,
  KVM_SET_TSC_KHZ,
  KVM_SET_VCPU_EVENTS,
  KVM_SET_XSAVE,
} from "../../ffi/uapi/kvm.ts";
import {
  kvm_cpuid2,
  kvm_cpuid_entry2,
  kvm_msr_entry,
  kvm_msrs,
  type kvm_regs,
  type kvm_sregs,
  type kvm_vcpu_events,
  type kvm_xcrs,
  kvm_xsave,
} from "../../ffi/uapi/kvm_x86.ts";

/** One CPUID leaf. */
export interface CpuidEntry {
  /** Leaf (EAX). */
  readonly function: number;
  /** Subleaf (ECX). */
  readonly index: number;
  /** `KVM_CPUID_FLAG_*`. */
  readonly flags: number;
  /** The answer. */
  eax: number;
  /** The answer. */
  ebx: number;
  /** The answer. */
  ecx: number;
  /** The answer. */
  edx: number;
}

/** One model-specific register. */
export interface Msr {
  /** Number. */
  readonly index: number;
  /** Value. */
  readonly value: bigint;
}

/** General registers. */
export type Registers = ValueOf<typeof kvm_regs>;
/** Segment and control registers. */
export type SystemRegisters = ValueOf<typeof kvm_sregs>;
/** Exceptions and interrupts under way. */
export type VcpuEvents = ValueOf<typeof kvm_vcpu_events>;

/** The state of a vCPU, behind a descriptor that somebody else owns. */
export class VcpuState {
  readonly #fd: number;
  readonly #xsaveSize: number;
  /** The APIC id. */
  readonly id: number;

  /**
   * @param id the APIC id
   * @param fd descriptor of the vCPU
   * @param xsaveSize the VM's KVM_CAP_XSAVE2, in bytes; 0 when it has none
   */
  constructor(id: number, fd: number, xsaveSize: number) {
    this.id = id;
    this.#fd = fd;
    this.#xsaveSize = Math.max(xsaveSize, kvm_xsave.size);
  }

  /** The descriptor. */
  get fd(): number {
    return this.#fd;
  }

  /** General registers (4.11). */
  getRegs(): Registers {
    return ioctlGet(this.fd, KVM_GET_REGS);
  }

  /** General registers (4.12); those not given become zero. */
  setRegs(registers: Partial<Registers>): void {
    ioctlSet(this.fd, KVM_SET_REGS, registers);
  }

  /** Segment and control registers (4.13). */
  getSregs(): SystemRegisters {
    return ioctlGet(this.fd, KVM_GET_SREGS);
  }

  /** Segment and control registers (4.14). */
  setSregs(registers: SystemRegisters): void {
    ioctlSet(this.fd, KVM_SET_SREGS, registers);
  }

  /** The CPUID leaves that the guest sees (4.75), before the first run. */
  setCpuid(entries: readonly CpuidEntry[]): void {
    const buffer = new Uint8Array(kvm_cpuid2.size + entries.length * kvm_cpuid_entry2.size);
    const view = new DataView(buffer.buffer);
    kvm_cpuid2.update(view, 0, { nent: entries.length });
    entries.forEach((entry, i) => {
      kvm_cpuid_entry2.update(view, kvm_cpuid2.size + i * kvm_cpuid_entry2.size, { ...entry });
    });
    ioctlBytes(this.fd, KVM_SET_CPUID2, buffer);
  }

  /** Model-specific registers (4.18); stops at the first that KVM does not know. */
  getMsrs(indices: readonly number[]): Msr[] {
    const buffer = msrBuffer(indices.map((index) => ({ index, value: 0n })));
    const count = ioctlBytes(this.fd, KVM_GET_MSRS, buffer);
    const view = new DataView(buffer.buffer);
    return Array.from({ length: count }, (_, i) => {
      const entry = kvm_msr_entry.get(view, kvm_msrs.size + i * kvm_msr_entry.size);
      return { index: entry.index, value: entry.data };
    });
  }

  /**
   * Model-specific registers (4.19).
   *
   * @returns how many were set; fewer than given when KVM refuses one
   */
  setMsrs(msrs: readonly Msr[]): number {
    return ioctlBytes(this.fd, KVM_SET_MSRS, msrBuffer(msrs));
  }

  /** Whether it runs, is halted or waits to be started (4.38). */
  getMpState(): number {
    return ioctlGet(this.fd, KVM_GET_MP_STATE).mp_state;
  }

  /** Exceptions and interrupts under way (4.31). */
  getEvents(): VcpuEvents {
    return ioctlGet(this.fd, KVM_GET_VCPU_EVENTS);
  }

  /** Exceptions and interrupts under way (4.32). */
  setEvents(events: VcpuEvents): void {
    ioctlSet(this.fd, KVM_SET_VCPU_EVENTS, events);
  }

  /** Bytes of {@linkcode getXsave}. */
  get xsaveBytes(): number {
    return this.#xsaveSize;
  }

  /** Extended processor state (4.42, 4.134) in the XSAVE area's standard format. */
  getXsave(): Uint8Array<ArrayBuffer> {
    const argument = new Uint8Array(this.#xsaveSize);
    const request = this.#xsaveSize > kvm_xsave.size ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
    ioctlBytes(this.fd, request, argument);
    return argument;
  }

  /** Extended processor state (4.43). */
  setXsave(state: Uint8Array<ArrayBuffer>): void {
    if (state.length < this.#xsaveSize) throw new RangeError("the XSAVE area is too short");
    ioctlBytes(this.fd, KVM_SET_XSAVE, state);
  }

  /** Extended control registers (4.44); needs KVM_CAP_XCRS. */
  getXcrs(): ValueOf<typeof kvm_xcrs> {
    return ioctlGet(this.fd, KVM_GET_XCRS);
  }

  /** Frequency of the time-stamp counter in kHz (4.56). */
  getTscKhz(): number {
    return ioctl(this.fd, KVM_GET_TSC_KHZ);
  }

  /** Frequency of the time-stamp counter in kHz (4.55). */
  setTscKhz(khz: number): void {
    ioctl(this.fd, KVM_SET_TSC_KHZ, khz);
  }
}

/** A vCPU descriptor with its kvm_run page, and their owner. */
export class KvmVcpu extends VcpuState implements Disposable {
  readonly #owned: OwnedFd;
  /** The kvm_run structure and what follows it. */
  readonly run: Mapping;
  /** KVM_CAP_XSAVE2, for {@linkcode VcpuState} in another thread. */
  readonly xsaveSize: number;

  /** Made by {@linkcode KvmVm.createVcpu}. */
  constructor(id: number, fd: OwnedFd, run: Mapping, xsaveSize: number) {
    super(id, fd.fd, xsaveSize);
    this.#owned = fd;
    this.run = run;
    this.xsaveSize = xsaveSize;
  }

  /** The descriptor; throws when it is closed. */
  override get fd(): number {
    return this.#owned.fd;
  }

  /** Unmaps kvm_run and closes the descriptor. */
  [Symbol.dispose](): void {
    this.run[Symbol.dispose]();
    this.#owned[Symbol.dispose]();
  }
}

function msrBuffer(msrs: readonly Msr[]): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(kvm_msrs.size + msrs.length * kvm_msr_entry.size);
  const view = new DataView(buffer.buffer);
  kvm_msrs.update(view, 0, { nmsrs: msrs.length });
  msrs.forEach(({ index, value }, i) => {
    kvm_msr_entry.update(view, kvm_msrs.size + i * kvm_msr_entry.size, { index, data: value });
  });
  return buffer;
}
