/**
 * For tests: a guest of a few instructions in 64-bit mode, without a kernel and without devices.
 *
 * @module
 */
import { compareExchangeCode } from "../assist/compare_exchange.ts";
import { hostKind } from "../kvm/host_probe.ts";
import { HOST_TRAITS } from "../host_traits.ts";
import { setBootRegisters, writeBootTables } from "../boot/paging.ts";
import type { MmioRegion } from "./bus.ts";
import { ByteRing } from "../legacy/byte_ring.ts";
import { Kvm } from "../kvm/kvm.ts";
import type { KvmVcpu } from "../kvm/kvm_vcpu.ts";
import { KVM_IDENTITY_MAP_ADDRESS, KVM_TSS_ADDRESS, MIB } from "../layout.ts";
import { Serial } from "../legacy/serial.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import type { Vcpu } from "./vcpu_thread.ts";

/** Where the code of a tiny guest begins. */
export const CODE = 0x10_0000;
const MEMORY = 2 * MIB;

/** `jmp $`: spins until {@linkcode TinyGuest.release}. */
export const SPIN: Uint8Array<ArrayBuffer> = Uint8Array.of(0xeb, 0xfe);
/** `out 0x80, al` again and again: leaves the guest all the time, for a port that nobody answers. */
export const EXIT: Uint8Array<ArrayBuffer> = Uint8Array.of(0xe6, 0x80, 0xeb, 0xfc);
/** Follows the code: `mov al, 0xfe; out 0x64, al`, which resets the machine. */
export const RESET: Uint8Array<ArrayBuffer> = Uint8Array.of(0xb0, 0xfe, 0xe6, 0x64);

/** Whether this host has a KVM; tests of guests are left out where it has none. */
export function hasKvm(): boolean {
  try {
    Kvm.open()[Symbol.dispose]();
    return true;
  } catch {
    return false;
  }
}

const ELF_HEADER = 64;
const CODE_IN_FILE = 0x200;

/** The code as a kernel that the loader takes: an ELF file of one segment at {@linkcode CODE}. */
export function tinyKernel(code: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CODE_IN_FILE + code.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // 64-bit, little-endian, version 1
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(CODE), true); // e_entry
  view.setBigUint64(32, BigInt(ELF_HEADER), true); // e_phoff
  view.setUint16(52, ELF_HEADER, true);
  view.setUint16(54, 56, true); // e_phentsize
  view.setUint16(56, 1, true); // e_phnum
  view.setUint32(ELF_HEADER, 1, true); // PT_LOAD
  view.setUint32(ELF_HEADER + 4, 7, true);
  view.setBigUint64(ELF_HEADER + 8, BigInt(CODE_IN_FILE), true);
  for (const at of [16, 24]) view.setBigUint64(ELF_HEADER + at, BigInt(CODE), true);
  for (const at of [32, 40]) view.setBigUint64(ELF_HEADER + at, BigInt(code.length), true);
  view.setBigUint64(ELF_HEADER + 48, 4n, true);
  bytes.set(code, CODE_IN_FILE);
  return bytes;
}

/** A VM of one processor. */
export class TinyGuest implements AsyncDisposable {
  readonly memory: GuestMemory;
  /** What the test steers. */
  readonly vcpu: Vcpu;
  /** What KVM knows of the processor. */
  readonly state: KvmVcpu;
  /** Ring of what it sends to its serial port. */
  readonly ring: ByteRing;
  readonly #resources: AsyncDisposableStack;
  readonly #jump: number;

  private constructor(
    resources: AsyncDisposableStack,
    parts: Pick<TinyGuest, "memory" | "vcpu" | "state" | "ring">,
    jump: number,
  ) {
    this.#jump = jump;
    this.#resources = resources;
    this.memory = parts.memory;
    this.vcpu = parts.vcpu;
    this.state = parts.state;
    this.ring = parts.ring;
  }

  /**
   * Makes one, paused.
   *
   * @param vcpu runs it; disposed with the guest
   * @param options what it executes, in 64-bit mode, ending in a jump of two bytes to its beginning;
   *   its devices; bytes of its console's ring
   */
  static async make(
    vcpu: Vcpu,
    { code = SPIN, regions = [], console = 4096 }: {
      readonly code?: Uint8Array<ArrayBuffer>;
      readonly regions?: readonly MmioRegion[];
      readonly console?: number;
    } = {},
  ): Promise<TinyGuest> {
    await using stack = new AsyncDisposableStack();
    using kvm = Kvm.open();
    const memory = stack.use(GuestMemory.create(MEMORY));
    const vm = stack.use(kvm.createVm());
    vm.setRealModePages(KVM_TSS_ADDRESS, KVM_IDENTITY_MAP_ADDRESS);
    vm.createIrqchip();
    memory.description.slots.forEach((slot, index) => vm.setMemorySlot(index, slot));
    const state = stack.use(vm.createVcpu(0));
    state.setCpuid(kvm.supportedCpuid());
    writeBootTables(memory);
    memory.write(CODE, code);
    setBootRegisters(state, CODE);

    const ring = new ByteRing(ByteRing.createState(console));
    stack.defer(() => vcpu[Symbol.asyncDispose]());
    stack.defer(() => ring.close());
    await vcpu.loaded;
    vcpu.start(state, {
      id: 0,
      fd: state.fd,
      vmFd: vm.fd,
      runAddress: state.run.address,
      runLength: state.run.length,
      xsaveSize: state.xsaveSize,
      assists: HOST_TRAITS[hostKind(kvm)].assists,
      compareExchange: compareExchangeCode(),
      xsaveComponents: [],
      memory: memory.description,
      control: vcpu.shared,
      serial: Serial.createState(),
      console: ring.shared,
      regions,
    });
    return new TinyGuest(stack.move(), { memory, vcpu, state, ring }, CODE + code.length - 1);
  }

  /** Has the guest leave its loop and reset the machine, which ends the vCPU without a kick. */
  release(): void {
    this.memory.write(this.#jump + 1, RESET);
    this.memory.write(this.#jump, Uint8Array.of(0));
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
