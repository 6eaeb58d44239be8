/**
 * arch/x86/include/uapi/asm/kvm.h of Linux 6.1, under the kernel's names.
 *
 * @module
 */
import { array, bytes, i64, type Struct, struct, u16, u32, u64, u8, union } from "../struct.ts";

/** Debug exception vector. */
export const DB_VECTOR = 1;
/** Breakpoint exception vector. */
export const BP_VECTOR = 3;
/** Invalid-opcode exception vector. */
export const UD_VECTOR = 6;
/** Device-not-available exception vector. */
export const NM_VECTOR = 7;
/** General-protection exception vector. */
export const GP_VECTOR = 13;
/** Page-fault exception vector. */
export const PF_VECTOR = 14;

/** In KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: the first i8259. */
export const KVM_IRQCHIP_PIC_MASTER = 0;
/** In KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: the second i8259. */
export const KVM_IRQCHIP_PIC_SLAVE = 1;
/** In KVM_GET_IRQCHIP and KVM_SET_IRQCHIP: the IOAPIC. */
export const KVM_IRQCHIP_IOAPIC = 2;
/** Pins of the IOAPIC. */
export const KVM_IOAPIC_NUM_PINS = 24;

/** struct kvm_pic_state. */
export const kvm_pic_state = struct("kvm_pic_state", {
  last_irr: u8,
  irr: u8,
  imr: u8,
  isr: u8,
  priority_add: u8,
  irq_base: u8,
  read_reg_select: u8,
  poll: u8,
  special_mask: u8,
  init_state: u8,
  auto_eoi: u8,
  rotate_on_auto_eoi: u8,
  special_fully_nested_mode: u8,
  init4: u8,
  elcr: u8,
  elcr_mask: u8,
});

/** struct kvm_ioapic_state. */
export const kvm_ioapic_state = struct("kvm_ioapic_state", {
  base_address: u64,
  ioregsel: u32,
  id: u32,
  irr: u32,
  pad: u32,
  redirtbl: array(u64, KVM_IOAPIC_NUM_PINS),
});

/** struct kvm_regs. */
export const kvm_regs = struct("kvm_regs", {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
});

/** Size of the local APIC's register page that KVM moves. */
export const KVM_APIC_REG_SIZE = 0x400;

/** struct kvm_lapic_state. */
export const kvm_lapic_state = struct("kvm_lapic_state", { regs: bytes(KVM_APIC_REG_SIZE) });

/** struct kvm_segment. */
export const kvm_segment = struct("kvm_segment", {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  padding: u8,
});

/** struct kvm_dtable. */
export const kvm_dtable = struct("kvm_dtable", {
  base: u64,
  limit: u16,
  padding: array(u16, 3),
});

/** struct kvm_sregs. */
export const kvm_sregs = struct("kvm_sregs", {
  cs: kvm_segment,
  ds: kvm_segment,
  es: kvm_segment,
  fs: kvm_segment,
  gs: kvm_segment,
  ss: kvm_segment,
  tr: kvm_segment,
  ldt: kvm_segment,
  gdt: kvm_dtable,
  idt: kvm_dtable,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apic_base: u64,
  interrupt_bitmap: array(u64, 4),
});

/** struct kvm_fpu. */
export const kvm_fpu = struct("kvm_fpu", {
  fpr: bytes(8 * 16),
  fcw: u16,
  fsw: u16,
  ftwx: u8,
  pad1: u8,
  last_opcode: u16,
  last_ip: u64,
  last_dp: u64,
  xmm: bytes(16 * 16),
  mxcsr: u32,
  pad2: u32,
});

/** struct kvm_msr_entry. */
export const kvm_msr_entry = struct("kvm_msr_entry", { index: u32, reserved: u32, data: u64 });

/** struct kvm_msrs without its flexible array `entries`. */
export const kvm_msrs = struct("kvm_msrs", { nmsrs: u32, pad: u32 });

/** struct kvm_msr_list without its flexible array `indices`. */
export const kvm_msr_list = struct("kvm_msr_list", { nmsrs: u32 });

/** struct kvm_cpuid_entry2. */
export const kvm_cpuid_entry2 = struct("kvm_cpuid_entry2", {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: array(u32, 3),
});

/** In kvm_cpuid_entry2.flags: `index` matters. */
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1 << 0;

/** struct kvm_cpuid2 without its flexible array `entries`. */
export const kvm_cpuid2 = struct("kvm_cpuid2", { nent: u32, padding: u32 });

/** struct kvm_pit_channel_state. */
export const kvm_pit_channel_state = struct("kvm_pit_channel_state", {
  count: u32,
  latched_count: u16,
  count_latched: u8,
  status_latched: u8,
  status: u8,
  read_state: u8,
  write_state: u8,
  write_latch: u8,
  rw_mode: u8,
  mode: u8,
  bcd: u8,
  gate: u8,
  count_load_time: i64,
});

/** struct kvm_pit_state2. */
export const kvm_pit_state2 = struct("kvm_pit_state2", {
  channels: array(kvm_pit_channel_state, 3),
  flags: u32,
  reserved: array(u32, 9),
});

/** In kvm_vcpu_events.flags: nmi.pending is valid. */
export const KVM_VCPUEVENT_VALID_NMI_PENDING = 0x1;
/** In kvm_vcpu_events.flags: sipi_vector is valid. */
export const KVM_VCPUEVENT_VALID_SIPI_VECTOR = 0x2;
/** In kvm_vcpu_events.flags: interrupt.shadow is valid. */
export const KVM_VCPUEVENT_VALID_SHADOW = 0x4;

const kvm_vcpu_events_exception = struct("exception", {
  injected: u8,
  nr: u8,
  has_error_code: u8,
  pending: u8,
  error_code: u32,
});
const kvm_vcpu_events_interrupt = struct("interrupt", {
  injected: u8,
  nr: u8,
  soft: u8,
  shadow: u8,
});
const kvm_vcpu_events_nmi = struct("nmi", { injected: u8, pending: u8, masked: u8, pad: u8 });
const kvm_vcpu_events_smi = struct("smi", {
  smm: u8,
  pending: u8,
  smm_inside_nmi: u8,
  latched_init: u8,
});

/** struct kvm_vcpu_events. */
export const kvm_vcpu_events = struct("kvm_vcpu_events", {
  exception: kvm_vcpu_events_exception,
  interrupt: kvm_vcpu_events_interrupt,
  nmi: kvm_vcpu_events_nmi,
  sipi_vector: u32,
  flags: u32,
  smi: kvm_vcpu_events_smi,
  triple_fault: struct("triple_fault", { pending: u8 }),
  reserved: bytes(26),
  exception_has_payload: u8,
  exception_payload: u64,
});

/** struct kvm_debugregs. */
export const kvm_debugregs = struct("kvm_debugregs", {
  db: array(u64, 4),
  dr6: u64,
  dr7: u64,
  flags: u64,
  reserved: array(u64, 9),
});

/** struct kvm_xsave without its flexible array `extra`. */
export const kvm_xsave = struct("kvm_xsave", { region: array(u32, 1024) });

/** struct kvm_xcr. */
export const kvm_xcr = struct("kvm_xcr", { xcr: u32, reserved: u32, value: u64 });

/** struct kvm_xcrs. */
export const kvm_xcrs = struct("kvm_xcrs", {
  nr_xcrs: u32,
  flags: u32,
  xcrs: array(kvm_xcr, 16),
  padding: array(u64, 16),
});

/** struct kvm_sync_regs. */
export const kvm_sync_regs = struct("kvm_sync_regs", {
  regs: kvm_regs,
  sregs: kvm_sregs,
  events: kvm_vcpu_events,
});

/** The union `chip` of struct kvm_irqchip. */
export const kvm_irqchip_chip = union("chip", {
  dummy: bytes(512),
  pic: kvm_pic_state,
  ioapic: kvm_ioapic_state,
});

/** Every struct of this header, for the layout test. */
export const structs: readonly Struct<never>[] = [
  kvm_pic_state,
  kvm_ioapic_state,
  kvm_regs,
  kvm_lapic_state,
  kvm_segment,
  kvm_dtable,
  kvm_sregs,
  kvm_fpu,
  kvm_msr_entry,
  kvm_msrs,
  kvm_msr_list,
  kvm_cpuid_entry2,
  kvm_cpuid2,
  kvm_pit_channel_state,
  kvm_pit_state2,
  kvm_vcpu_events,
  kvm_debugregs,
  kvm_xsave,
  kvm_xcr,
  kvm_xcrs,
  kvm_sync_regs,
] as unknown as readonly Struct<never>[];
