/**
 * include/uapi/linux/kvm.h of Linux 6.1, under the kernel's names. What each ioctl does is said in
 * Documentation/virt/kvm/api.rst.
 *
 * @module
 */
import { _IO, _IOR, _IOW, _IOWR, type Ioctl } from "../ioctl.ts";
import {
  array,
  bytes,
  type CType,
  i32,
  type Struct,
  struct,
  u16,
  u32,
  u64,
  u8,
  union,
} from "../struct.ts";
import {
  kvm_cpuid2,
  kvm_debugregs,
  kvm_fpu,
  kvm_irqchip_chip,
  kvm_lapic_state,
  kvm_msr_list,
  kvm_msrs,
  kvm_pit_state2,
  kvm_regs,
  kvm_sregs,
  kvm_sync_regs,
  kvm_vcpu_events,
  kvm_xcrs,
  kvm_xsave,
} from "./kvm_x86.ts";

const KVMIO = 0xae;

/** The only version there is: api.rst 4.1. */
export const KVM_API_VERSION = 12;

/** In kvm_userspace_memory_region.flags: log the pages that the guest writes. */
export const KVM_MEM_LOG_DIRTY_PAGES = 1 << 0;
/** In kvm_userspace_memory_region.flags: guest writes become KVM_EXIT_MMIO. */
export const KVM_MEM_READONLY = 1 << 1;
/** In kvm_pit_config.flags: KVM answers the speaker port 0x61. */
export const KVM_PIT_SPEAKER_DUMMY = 1;

/** kvm_run.exit_reason values. */
export const KVM_EXIT_UNKNOWN = 0;
/** Port I/O. */
export const KVM_EXIT_IO = 2;
/** HLT without an in-kernel interrupt controller. */
export const KVM_EXIT_HLT = 5;
/** Memory-mapped I/O. */
export const KVM_EXIT_MMIO = 6;
/** Triple fault. */
export const KVM_EXIT_SHUTDOWN = 8;
/** The processor refused to enter the guest. */
export const KVM_EXIT_FAIL_ENTRY = 9;
/** A signal. */
export const KVM_EXIT_INTR = 10;
/** KVM cannot go on. */
export const KVM_EXIT_INTERNAL_ERROR = 17;
/** A system event such as shutdown. */
export const KVM_EXIT_SYSTEM_EVENT = 24;

/** In kvm_run.io.direction: the guest reads. */
export const KVM_EXIT_IO_IN = 0;
/** In kvm_run.io.direction: the guest writes. */
export const KVM_EXIT_IO_OUT = 1;

/** In kvm_run.internal.suberror: an instruction could not be emulated. */
export const KVM_INTERNAL_ERROR_EMULATION = 1;
/** In kvm_run.emulation_failure.flags: insn_size and insn_bytes are valid. */
export const KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES = 1n;

/** In kvm_mp_state.mp_state. */
export const KVM_MP_STATE_RUNNABLE = 0;
/** In kvm_mp_state.mp_state: an application processor that was not started. */
export const KVM_MP_STATE_UNINITIALIZED = 1;
/** In kvm_mp_state.mp_state: INIT received, waits for SIPI. */
export const KVM_MP_STATE_INIT_RECEIVED = 2;
/** In kvm_mp_state.mp_state: in HLT. */
export const KVM_MP_STATE_HALTED = 3;

/** KVM_CHECK_EXTENSION arguments. */
export const KVM_CAP_IRQCHIP = 0;
/** Recommended number of vCPUs. */
export const KVM_CAP_NR_VCPUS = 9;
/** In-kernel irqfd. */
export const KVM_CAP_IRQFD = 32;
/** KVM_CREATE_PIT2. */
export const KVM_CAP_PIT2 = 33;
/** ioeventfd. */
export const KVM_CAP_IOEVENTFD = 36;
/** KVM_GET_VCPU_EVENTS. */
export const KVM_CAP_VCPU_EVENTS = 41;
/** KVM_GET_DEBUGREGS. */
export const KVM_CAP_DEBUGREGS = 50;
/** KVM_GET_XSAVE. */
export const KVM_CAP_XSAVE = 55;
/** KVM_GET_XCRS. */
export const KVM_CAP_XCRS = 56;
/** KVM_GET_TSC_KHZ. */
export const KVM_CAP_GET_TSC_KHZ = 61;
/** Largest number of vCPUs. */
export const KVM_CAP_MAX_VCPUS = 66;
/** The local APIC timer has a TSC deadline mode. */
export const KVM_CAP_TSC_DEADLINE_TIMER = 72;
/** KVM_MEM_READONLY. */
export const KVM_CAP_READONLY_MEM = 81;
/** kvm_run.immediate_exit. */
export const KVM_CAP_IMMEDIATE_EXIT = 136;
/** KVM_GET_XSAVE2; the value is the size in bytes. */
export const KVM_CAP_XSAVE2 = 208;

/** struct kvm_userspace_memory_region. */
export const kvm_userspace_memory_region = struct("kvm_userspace_memory_region", {
  slot: u32,
  flags: u32,
  guest_phys_addr: u64,
  memory_size: u64,
  userspace_addr: u64,
});

/** struct kvm_irq_level. */
export const kvm_irq_level = struct("kvm_irq_level", { irq: u32, level: u32 });

/** struct kvm_irqchip. */
export const kvm_irqchip = struct("kvm_irqchip", {
  chip_id: u32,
  pad: u32,
  chip: kvm_irqchip_chip,
});

/** struct kvm_pit_config. */
export const kvm_pit_config = struct("kvm_pit_config", { flags: u32, pad: array(u32, 15) });

/** struct kvm_translation. */
export const kvm_translation = struct("kvm_translation", {
  linear_address: u64,
  physical_address: u64,
  valid: u8,
  writeable: u8,
  usermode: u8,
  pad: bytes(5),
});

/** struct kvm_mp_state. */
export const kvm_mp_state = struct("kvm_mp_state", { mp_state: u32 });

/** struct kvm_clock_data. */
export const kvm_clock_data = struct("kvm_clock_data", {
  clock: u64,
  flags: u32,
  pad0: u32,
  realtime: u64,
  host_tsc: u64,
  pad: array(u32, 4),
});

/** struct kvm_irqfd. */
export const kvm_irqfd = struct("kvm_irqfd", {
  fd: u32,
  gsi: u32,
  flags: u32,
  resamplefd: u32,
  pad: bytes(16),
});

/** In kvm_irqfd.flags: undo an assignment. */
export const KVM_IRQFD_FLAG_DEASSIGN = 1 << 0;
/** In kvm_irqfd.flags: resamplefd is given; the interrupt is level-triggered. */
export const KVM_IRQFD_FLAG_RESAMPLE = 1 << 1;

/** struct kvm_ioeventfd. */
export const kvm_ioeventfd = struct("kvm_ioeventfd", {
  datamatch: u64,
  addr: u64,
  len: u32,
  fd: i32,
  flags: u32,
  pad: bytes(36),
});

/** In kvm_ioeventfd.flags: fire only for the value `datamatch`. */
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1 << 0;
/** In kvm_ioeventfd.flags: port I/O. */
export const KVM_IOEVENTFD_FLAG_PIO = 1 << 1;
/** In kvm_ioeventfd.flags: undo an assignment. */
export const KVM_IOEVENTFD_FLAG_DEASSIGN = 1 << 2;

const io = struct("io", { direction: u8, size: u8, port: u16, count: u32, data_offset: u64 });
const mmio = struct("mmio", { phys_addr: u64, data: bytes(8), len: u32, is_write: u8 });
const fail_entry = struct("fail_entry", { hardware_entry_failure_reason: u64, cpu: u32 });
const internal = struct("internal", { suberror: u32, ndata: u32, data: array(u64, 16) });
const emulation_failure = struct("emulation_failure", {
  suberror: u32,
  ndata: u32,
  flags: u64,
  insn_size: u8,
  insn_bytes: bytes(15),
});
const system_event = struct("system_event", { type: u32, ndata: u32, data: array(u64, 16) });

/** The first, unnamed union of struct kvm_run: what the exit is about. */
export const kvm_run_exit = union("exit", {
  io,
  mmio,
  fail_entry,
  internal,
  emulation_failure,
  system_event,
  padding: bytes(256),
});

/** struct kvm_run; its unnamed union is called `exit` here. */
export const kvm_run = struct("kvm_run", {
  request_interrupt_window: u8,
  immediate_exit: u8,
  padding1: bytes(6),
  exit_reason: u32,
  ready_for_interrupt_injection: u8,
  if_flag: u8,
  flags: u16,
  cr8: u64,
  apic_base: u64,
  exit: aligned8(kvm_run_exit),
  kvm_valid_regs: u64,
  kvm_dirty_regs: u64,
  s: union("s", { regs: kvm_sync_regs, padding: bytes(2048) }),
});

function aligned8<T extends CType<unknown>>(type: T): T {
  if (type.align !== 8) throw new TypeError("the union of kvm_run has members of 64 bits");
  return type;
}

/** System ioctls, on /dev/kvm. */
export const KVM_GET_API_VERSION: Ioctl<void> = _IO("KVM_GET_API_VERSION", KVMIO, 0x00);
/** Returns a VM descriptor. */
export const KVM_CREATE_VM: Ioctl<void> = _IO("KVM_CREATE_VM", KVMIO, 0x01);
/** MSRs that can be saved. */
export const KVM_GET_MSR_INDEX_LIST: Ioctl<{ nmsrs: number }> = _IOWR(
  "KVM_GET_MSR_INDEX_LIST",
  KVMIO,
  0x02,
  kvm_msr_list,
);
/** Whether a KVM_CAP_* is there. */
export const KVM_CHECK_EXTENSION: Ioctl<void> = _IO("KVM_CHECK_EXTENSION", KVMIO, 0x03);
/** Size of the kvm_run mapping. */
export const KVM_GET_VCPU_MMAP_SIZE: Ioctl<void> = _IO("KVM_GET_VCPU_MMAP_SIZE", KVMIO, 0x04);
/** CPUID leaves that KVM can offer. */
export const KVM_GET_SUPPORTED_CPUID: Ioctl<{ nent: number; padding: number }> = _IOWR(
  "KVM_GET_SUPPORTED_CPUID",
  KVMIO,
  0x05,
  kvm_cpuid2,
);

/** VM ioctls. */
export const KVM_CREATE_VCPU: Ioctl<void> = _IO("KVM_CREATE_VCPU", KVMIO, 0x41);
/** Adds, changes or removes a memory slot. */
export const KVM_SET_USER_MEMORY_REGION = _IOW(
  "KVM_SET_USER_MEMORY_REGION",
  KVMIO,
  0x46,
  kvm_userspace_memory_region,
);
/** Three pages for real mode on old Intel processors. */
export const KVM_SET_TSS_ADDR: Ioctl<void> = _IO("KVM_SET_TSS_ADDR", KVMIO, 0x47);
/** One page for real mode on old Intel processors. */
export const KVM_SET_IDENTITY_MAP_ADDR: Ioctl<bigint> = _IOW(
  "KVM_SET_IDENTITY_MAP_ADDR",
  KVMIO,
  0x48,
  u64,
);
/** Makes the PICs and the IOAPIC, and a local APIC for each vCPU made later. */
export const KVM_CREATE_IRQCHIP: Ioctl<void> = _IO("KVM_CREATE_IRQCHIP", KVMIO, 0x60);
/** Sets the level of an interrupt line. */
export const KVM_IRQ_LINE = _IOW("KVM_IRQ_LINE", KVMIO, 0x61, kvm_irq_level);
/** Reads a PIC or the IOAPIC. */
export const KVM_GET_IRQCHIP = _IOWR("KVM_GET_IRQCHIP", KVMIO, 0x62, kvm_irqchip);
/** Writes a PIC or the IOAPIC. */
export const KVM_SET_IRQCHIP = _IOR("KVM_SET_IRQCHIP", KVMIO, 0x63, kvm_irqchip);
/** An eventfd that raises an interrupt. */
export const KVM_IRQFD = _IOW("KVM_IRQFD", KVMIO, 0x76, kvm_irqfd);
/** Makes the interval timer. */
export const KVM_CREATE_PIT2 = _IOW("KVM_CREATE_PIT2", KVMIO, 0x77, kvm_pit_config);
/** An eventfd that a guest write signals. */
export const KVM_IOEVENTFD = _IOW("KVM_IOEVENTFD", KVMIO, 0x79, kvm_ioeventfd);
/** Sets kvm-clock. */
export const KVM_SET_CLOCK = _IOW("KVM_SET_CLOCK", KVMIO, 0x7b, kvm_clock_data);
/** Reads kvm-clock. */
export const KVM_GET_CLOCK = _IOR("KVM_GET_CLOCK", KVMIO, 0x7c, kvm_clock_data);
/** Reads the interval timer. */
export const KVM_GET_PIT2 = _IOR("KVM_GET_PIT2", KVMIO, 0x9f, kvm_pit_state2);
/** Writes the interval timer. */
export const KVM_SET_PIT2 = _IOW("KVM_SET_PIT2", KVMIO, 0xa0, kvm_pit_state2);

/** vCPU ioctls. */
export const KVM_RUN: Ioctl<void> = _IO("KVM_RUN", KVMIO, 0x80);
/** General registers. */
export const KVM_GET_REGS = _IOR("KVM_GET_REGS", KVMIO, 0x81, kvm_regs);
/** General registers. */
export const KVM_SET_REGS = _IOW("KVM_SET_REGS", KVMIO, 0x82, kvm_regs);
/** Segment and control registers. */
export const KVM_GET_SREGS = _IOR("KVM_GET_SREGS", KVMIO, 0x83, kvm_sregs);
/** Segment and control registers. */
export const KVM_SET_SREGS = _IOW("KVM_SET_SREGS", KVMIO, 0x84, kvm_sregs);
/** Walks the guest's page tables. */
export const KVM_TRANSLATE = _IOWR("KVM_TRANSLATE", KVMIO, 0x85, kvm_translation);
/** Model-specific registers. */
export const KVM_GET_MSRS = _IOWR("KVM_GET_MSRS", KVMIO, 0x88, kvm_msrs);
/** Model-specific registers. */
export const KVM_SET_MSRS = _IOW("KVM_SET_MSRS", KVMIO, 0x89, kvm_msrs);
/** x87 and SSE state. */
export const KVM_GET_FPU = _IOR("KVM_GET_FPU", KVMIO, 0x8c, kvm_fpu);
/** x87 and SSE state. */
export const KVM_SET_FPU = _IOW("KVM_SET_FPU", KVMIO, 0x8d, kvm_fpu);
/** Local APIC. */
export const KVM_GET_LAPIC = _IOR("KVM_GET_LAPIC", KVMIO, 0x8e, kvm_lapic_state);
/** Local APIC. */
export const KVM_SET_LAPIC = _IOW("KVM_SET_LAPIC", KVMIO, 0x8f, kvm_lapic_state);
/** CPUID leaves that the guest sees. */
export const KVM_SET_CPUID2 = _IOW("KVM_SET_CPUID2", KVMIO, 0x90, kvm_cpuid2);
/** CPUID leaves that the guest sees. */
export const KVM_GET_CPUID2 = _IOWR("KVM_GET_CPUID2", KVMIO, 0x91, kvm_cpuid2);
/** Whether the vCPU runs, is halted or waits to be started. */
export const KVM_GET_MP_STATE = _IOR("KVM_GET_MP_STATE", KVMIO, 0x98, kvm_mp_state);
/** Whether the vCPU runs, is halted or waits to be started. */
export const KVM_SET_MP_STATE = _IOW("KVM_SET_MP_STATE", KVMIO, 0x99, kvm_mp_state);
/** Exceptions and interrupts under way. */
export const KVM_GET_VCPU_EVENTS = _IOR("KVM_GET_VCPU_EVENTS", KVMIO, 0x9f, kvm_vcpu_events);
/** Exceptions and interrupts under way. */
export const KVM_SET_VCPU_EVENTS = _IOW("KVM_SET_VCPU_EVENTS", KVMIO, 0xa0, kvm_vcpu_events);
/** Debug registers. */
export const KVM_GET_DEBUGREGS = _IOR("KVM_GET_DEBUGREGS", KVMIO, 0xa1, kvm_debugregs);
/** Debug registers. */
export const KVM_SET_DEBUGREGS = _IOW("KVM_SET_DEBUGREGS", KVMIO, 0xa2, kvm_debugregs);
/** Frequency of the guest's time-stamp counter in kHz, as the return value. */
export const KVM_GET_TSC_KHZ: Ioctl<void> = _IO("KVM_GET_TSC_KHZ", KVMIO, 0xa3);
/** Frequency of the guest's time-stamp counter in kHz. */
export const KVM_SET_TSC_KHZ: Ioctl<void> = _IO("KVM_SET_TSC_KHZ", KVMIO, 0xa2);
/** Extended processor state. */
export const KVM_GET_XSAVE = _IOR("KVM_GET_XSAVE", KVMIO, 0xa4, kvm_xsave);
/** Extended processor state. */
export const KVM_SET_XSAVE = _IOW("KVM_SET_XSAVE", KVMIO, 0xa5, kvm_xsave);
/** Extended control registers. */
export const KVM_GET_XCRS = _IOR("KVM_GET_XCRS", KVMIO, 0xa6, kvm_xcrs);
/** Extended control registers. */
export const KVM_SET_XCRS = _IOW("KVM_SET_XCRS", KVMIO, 0xa7, kvm_xcrs);
/** Tells kvm-clock that the guest was paused. */
export const KVM_KVMCLOCK_CTRL: Ioctl<void> = _IO("KVM_KVMCLOCK_CTRL", KVMIO, 0xad);
/** As KVM_GET_XSAVE, of the size that KVM_CAP_XSAVE2 gives. */
export const KVM_GET_XSAVE2 = _IOR("KVM_GET_XSAVE2", KVMIO, 0xcf, kvm_xsave);

/** Every struct of this header, for the layout test. */
export const structs: readonly Struct<never>[] = [
  kvm_userspace_memory_region,
  kvm_irq_level,
  kvm_irqchip,
  kvm_pit_config,
  kvm_translation,
  kvm_mp_state,
  kvm_clock_data,
  kvm_irqfd,
  kvm_ioeventfd,
  kvm_run,
] as unknown as readonly Struct<never>[];
