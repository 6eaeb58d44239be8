/**
 * /dev/kvm and a VM's descriptor, each with the ioctls that it answers; vCPUs are in kvm_vcpu.ts. The
 * numbers in the comments are sections of Documentation/virt/kvm/api.rst.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { ioctl, ioctlBytes, ioctlGet, ioctlSet } from "../../ffi/libc.ts";
import { Mapping } from "../../ffi/mapping.ts";
import type { ValueOf } from "../../ffi/struct.ts";
import {
  KVM_API_VERSION,
  KVM_CAP_XSAVE2,
  KVM_CHECK_EXTENSION,
  type kvm_clock_data,
  KVM_CREATE_IRQCHIP,
  KVM_CREATE_PIT2,
  KVM_CREATE_VCPU,
  KVM_CREATE_VM,
  KVM_GET_API_VERSION,
  KVM_GET_CLOCK,
  KVM_GET_IRQCHIP,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_VCPU_MMAP_SIZE,
  KVM_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  KVM_IOEVENTFD_FLAG_DEASSIGN,
  KVM_IRQ_LINE,
  kvm_irqchip,
  KVM_IRQFD,
  KVM_IRQFD_FLAG_DEASSIGN,
  KVM_MEM_READONLY,
  KVM_PIT_SPEAKER_DUMMY,
  KVM_SET_CLOCK,
  KVM_SET_IDENTITY_MAP_ADDR,
  KVM_SET_IRQCHIP,
  KVM_SET_TSS_ADDR,
  KVM_SET_USER_MEMORY_REGION,
} from "../../ffi/uapi/kvm.ts";
import { kvm_cpuid2, kvm_cpuid_entry2, kvm_msr_list } from "../../ffi/uapi/kvm_x86.ts";
import { MAP_SHARED, O_CLOEXEC, O_RDWR, PROT_READ, PROT_WRITE } from "../../ffi/uapi/mman.ts";
import type { MemorySlot } from "../memory/guest_memory.ts";
import { type CpuidEntry, KvmVcpu } from "./kvm_vcpu.ts";

const MAX_CPUID_ENTRIES = 256; // KVM_MAX_CPUID_ENTRIES

function cannotOpen(path: string, cause: unknown): unknown {
  if (!(cause instanceof SyscallError)) return cause;
  const remedy: Readonly<Record<string, string>> = {
    ENOENT:
      "load a KVM module (kvm_intel, kvm_amd or kvm_pvm), or switch virtualisation on in the" +
      " firmware or in the cloud instance's settings",
    ENODEV: "load a KVM module (kvm_intel, kvm_amd or kvm_pvm)",
    ENXIO: "load a KVM module (kvm_intel, kvm_amd or kvm_pvm)",
    EACCES: `make ${path} readable and writable for you: join the group kvm and log in again`,
    EPERM: `allow access to ${path} in the container's or the service's device rules`,
  };
  return new CloudletError(`Cannot use KVM: ${path}: ${cause.code}`, {
    code: "host",
    cause,
    ...(remedy[cause.code] === undefined ? {} : { remedy: remedy[cause.code]! }),
  });
}

/** The system descriptor. */
export class Kvm implements Disposable {
  readonly #fd: OwnedFd;

  private constructor(fd: OwnedFd) {
    this.#fd = fd;
  }

  /**
   * Opens KVM.
   *
   * @throws {CloudletError} `host` when there is no KVM, or no permission, or another API version
   */
  static open(path = "/dev/kvm"): Kvm {
    using stack = new DisposableStack();
    let fd: OwnedFd;
    let version: number;
    try {
      fd = stack.use(OwnedFd.open(path, O_RDWR | O_CLOEXEC));
      version = ioctl(fd.fd, KVM_GET_API_VERSION);
    } catch (cause) {
      if (cause instanceof SyscallError && cause.op === "KVM_GET_API_VERSION") {
        throw new CloudletError(`Cannot use KVM: ${path} is another kind of device`, {
          code: "host",
          cause,
        });
      }
      throw cannotOpen(path, cause);
    }
    if (version !== KVM_API_VERSION) {
      throw new CloudletError(`Cannot use KVM: API version ${version}, not ${KVM_API_VERSION}`, {
        code: "host",
        remedy: "use Linux 2.6.22 or later",
      });
    }
    stack.move();
    return new Kvm(fd);
  }

  /** 4.4: the value of a capability; 0 when it is missing. */
  capability(number: number): number {
    return ioctl(this.#fd.fd, KVM_CHECK_EXTENSION, number);
  }

  /** 4.5: bytes to map for a vCPU. */
  get vcpuMmapSize(): number {
    return ioctl(this.#fd.fd, KVM_GET_VCPU_MMAP_SIZE);
  }

  /** 4.46: the CPUID leaves that this host can give to a guest. */
  supportedCpuid(): CpuidEntry[] {
    const buffer = new Uint8Array(kvm_cpuid2.size + MAX_CPUID_ENTRIES * kvm_cpuid_entry2.size);
    const view = new DataView(buffer.buffer);
    kvm_cpuid2.update(view, 0, { nent: MAX_CPUID_ENTRIES });
    ioctlBytes(this.#fd.fd, KVM_GET_SUPPORTED_CPUID, buffer);
    const { nent } = kvm_cpuid2.get(view, 0);
    return Array.from({ length: nent }, (_, i) => {
      const { padding: _padding, ...entry } = kvm_cpuid_entry2.get(
        view,
        kvm_cpuid2.size + i * kvm_cpuid_entry2.size,
      );
      return entry;
    });
  }

  /** 4.3: the MSRs that have to be saved with a VM. */
  msrIndexList(): number[] {
    const room = 512;
    const buffer = new Uint8Array(kvm_msr_list.size + room * 4);
    const view = new DataView(buffer.buffer);
    kvm_msr_list.update(view, 0, { nmsrs: room });
    ioctlBytes(this.#fd.fd, KVM_GET_MSR_INDEX_LIST, buffer);
    const { nmsrs } = kvm_msr_list.get(view, 0);
    return Array.from({ length: nmsrs }, (_, i) => view.getUint32(4 + i * 4, true));
  }

  /** 4.2: makes a VM without memory or processors. */
  createVm(): KvmVm {
    for (;;) {
      try {
        return new KvmVm(new OwnedFd(ioctl(this.#fd.fd, KVM_CREATE_VM)), this.vcpuMmapSize);
      } catch (error) {
        // The kernel gives up when a signal comes while it waits for a lock.
        if (error instanceof SyscallError && error.code === "EINTR") continue;
        throw error;
      }
    }
  }

  /** Closes the descriptor; VMs live on. */
  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** A VM descriptor. */
export class KvmVm implements Disposable {
  readonly #fd: OwnedFd;
  readonly #vcpuMmapSize: number;

  /** Made by {@linkcode Kvm.createVm}. */
  constructor(fd: OwnedFd, vcpuMmapSize: number) {
    this.#fd = fd;
    this.#vcpuMmapSize = vcpuMmapSize;
  }

  /** The number, for threads that raise interrupts. */
  get fd(): number {
    return this.#fd.fd;
  }

  /** 4.4: the value of a capability for this VM. */
  capability(number: number): number {
    return ioctl(this.fd, KVM_CHECK_EXTENSION, number);
  }

  /** 4.39 and 4.40: the pages that old Intel processors need for real mode. */
  setRealModePages(tss: number, identityMap: number): void {
    const argument = new Uint8Array(8);
    new DataView(argument.buffer).setBigUint64(0, BigInt(identityMap), true);
    ioctlBytes(this.fd, KVM_SET_IDENTITY_MAP_ADDR, argument);
    ioctl(this.fd, KVM_SET_TSS_ADDR, tss);
  }

  /** 4.24: PICs, IOAPIC and local APICs in the kernel; before the vCPUs. */
  createIrqchip(): void {
    ioctl(this.fd, KVM_CREATE_IRQCHIP);
  }

  /** 4.71: the interval timer in the kernel, which then answers the speaker port as well. */
  createPit(): void {
    ioctlSet(this.fd, KVM_CREATE_PIT2, { flags: KVM_PIT_SPEAKER_DUMMY });
  }

  /** 4.35: gives guest-physical addresses to memory of this process; size 0 takes it away. */
  setMemorySlot(slot: number, memory: MemorySlot): void {
    ioctlSet(this.fd, KVM_SET_USER_MEMORY_REGION, {
      slot,
      flags: memory.readOnly ? KVM_MEM_READONLY : 0,
      guest_phys_addr: BigInt(memory.start),
      memory_size: BigInt(memory.size),
      userspace_addr: memory.address,
    });
  }

  /** 4.7: makes a vCPU, whose number is its APIC id. */
  createVcpu(id: number): KvmVcpu {
    using stack = new DisposableStack();
    const fd = stack.use(new OwnedFd(ioctl(this.fd, KVM_CREATE_VCPU, id)));
    const run = stack.use(
      Mapping.create({
        length: this.#vcpuMmapSize,
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_SHARED,
        fd: fd.fd,
      }),
    );
    stack.move();
    return new KvmVcpu(id, fd, run, this.capability(KVM_CAP_XSAVE2));
  }

  /** 4.25: sets an interrupt line's level. */
  irqLine(irq: number, level: boolean): void {
    ioctlSet(this.fd, KVM_IRQ_LINE, { irq, level: level ? 1 : 0 });
  }

  /** 4.75: an eventfd that raises an edge-triggered interrupt. */
  irqfd(fd: number, gsi: number, assign = true): void {
    ioctlSet(this.fd, KVM_IRQFD, { fd, gsi, flags: assign ? 0 : KVM_IRQFD_FLAG_DEASSIGN });
  }

  /**
   * 4.59: an eventfd that a guest write signals without leaving the kernel.
   *
   * @param address guest-physical
   * @param length bytes written: 1, 2, 4 or 8
   * @param match only this value, or any
   */
  ioeventfd(fd: number, address: number, length: number, match?: number, assign = true): void {
    ioctlSet(this.fd, KVM_IOEVENTFD, {
      fd,
      addr: BigInt(address),
      len: length,
      datamatch: BigInt(match ?? 0),
      flags: (match === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH) |
        (assign ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    });
  }

  /** 4.29: kvm-clock. */
  getClock(): ValueOf<typeof kvm_clock_data> {
    return ioctlGet(this.fd, KVM_GET_CLOCK);
  }

  /** 4.30: kvm-clock, in nanoseconds. */
  setClock(clock: bigint): void {
    ioctlSet(this.fd, KVM_SET_CLOCK, { clock });
  }

  /** 4.26: the state of a PIC or the IOAPIC, as bytes of struct kvm_irqchip. */
  getIrqchip(chip_id: number): Uint8Array<ArrayBuffer> {
    const argument = kvm_irqchip.encode({ chip_id });
    ioctlBytes(this.fd, KVM_GET_IRQCHIP, argument);
    return argument;
  }

  /** 4.27: the inverse. */
  setIrqchip(state: Uint8Array<ArrayBuffer>): void {
    ioctlBytes(this.fd, KVM_SET_IRQCHIP, state);
  }

  /** Closes the descriptor. The VM ends when its vCPUs are closed, too. */
  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}
