/**
 * Carries out, on a stopped vCPU, the instruction that KVM could not emulate.
 *
 * @module
 */
import { BP_VECTOR, PF_VECTOR } from "../../ffi/uapi/kvm_x86.ts";
import type { CpuidEntry, Registers, VcpuState } from "../kvm/kvm_vcpu.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { decode } from "./decode.ts";
import { Exception, findAssist, type Machine } from "./instructions.ts";
import type { CompareExchange } from "./compare_exchange.ts";
import { EntryChanged, PageFault, translate } from "./page_walk.ts";
import type { XsaveComponent } from "./xsave.ts";

/** KVM's register names in the order of their numbers in ModRM. */
const NAMES = [
  "rax",
  "rcx",
  "rdx",
  "rbx",
  "rsp",
  "rbp",
  "rsi",
  "rdi",
  "r8",
  "r9",
  "r10",
  "r11",
  "r12",
  "r13",
  "r14",
  "r15",
] as const satisfies readonly (keyof Registers)[];

const PAGE = 4096n;
const MAX_INSTRUCTION = 15;
const MASK64 = (1n << 64n) - 1n;
const XSAVE_LEAF = 0xd;
const XCR0 = 0;
const CMPXCHG16B_BYTES = 16;

/** What became of the instruction. */
export type AssistResult =
  | { readonly kind: "done"; readonly name: string }
  /** Nothing was done: the guest executes it again. */
  | { readonly kind: "again" }
  | { readonly kind: "unknown"; readonly rip: bigint; readonly bytes: Uint8Array };

/** The components' places, from the CPUID leaves that the guest has. */
export function xsaveComponents(cpuid: readonly CpuidEntry[]): XsaveComponent[] {
  return cpuid
    .filter((leaf) => leaf.function === XSAVE_LEAF && leaf.index >= 2 && leaf.eax > 0)
    .filter((leaf) => (leaf.ecx & 1) === 0) // bit 0: a supervisor component, not in XCR0
    .map((leaf) => ({ bit: leaf.index, offset: leaf.ebx, size: leaf.eax }));
}

/**
 * Does the instruction at RIP.
 *
 * @param vcpu a vCPU that this thread has just run
 * @param memory the guest's memory
 * @param components from {@linkcode xsaveComponents}
 * @param compareExchange for instructions that are atomic
 */
export function assistInstruction(
  vcpu: VcpuState,
  memory: GuestMemory,
  components: readonly XsaveComponent[],
  compareExchange: CompareExchange,
): AssistResult {
  try {
    return carryOut(vcpu, memory, components, compareExchange);
  } catch (error) {
    if (error instanceof EntryChanged) return { kind: "again" }; // thrown before anything is written
    throw error;
  }
}

function carryOut(
  vcpu: VcpuState,
  memory: GuestMemory,
  components: readonly XsaveComponent[],
  compareExchange: CompareExchange,
): AssistResult {
  const regs = vcpu.getRegs();
  const sregs = vcpu.getSregs();
  const user = (sregs.cs.selector & 3) === 3;

  const chunks = (linear: bigint, length: number, write: boolean) => {
    const result: { physical: number; offset: number; length: number }[] = [];
    for (let offset = 0; offset < length;) {
      const at = (linear + BigInt(offset)) & MASK64;
      const room = Number(PAGE - (at % PAGE));
      const size = Math.min(room, length - offset);
      const physical = translate(memory, sregs, at, { write, user });
      result.push({ physical, offset, length: size });
      offset += size;
    }
    return result;
  };
  const read = (linear: bigint, length: number) => {
    const bytes = new Uint8Array(length);
    for (const chunk of chunks(linear, length, false)) {
      bytes.set(memory.read(chunk.physical, chunk.length), chunk.offset);
    }
    return bytes;
  };

  const code = readCode(read, regs.rip);
  const instruction = decode(code);
  const assist = instruction === undefined ? undefined : findAssist(instruction);
  if (instruction === undefined || assist === undefined) {
    return { kind: "unknown", rip: regs.rip, bytes: code };
  }

  const machine: Machine = {
    registers: NAMES.map((name) => regs[name]),
    rip: (regs.rip + BigInt(instruction.length)) & MASK64,
    rflags: regs.rflags,
    cr0: sregs.cr0,
    cr4: sregs.cr4,
    get xcr0() {
      return vcpu.getXcrs().xcrs.find(({ xcr }) => xcr === XCR0)?.value ?? 1n;
    },
    fsBase: sregs.fs.base,
    gsBase: sregs.gs.base,
    xsaveComponents: components,
    read,
    write(pieces) {
      const places = pieces.map(({ linear, bytes }) => chunks(linear, bytes.length, true));
      pieces.forEach(({ bytes }, i) => {
        for (const { physical, offset, length } of places[i]!) {
          memory.write(physical, bytes.subarray(offset, offset + length));
        }
      });
    },
    compareExchange(linear, expected, next) {
      const physical = translate(memory, sregs, linear, { write: true, user });
      return compareExchange(memory.hostAddress(physical, CMPXCHG16B_BYTES), expected, next);
    },
    getXsave: () => vcpu.getXsave(),
    setXsave: (state) => vcpu.setXsave(state),
  };

  try {
    assist.execute(machine, instruction);
  } catch (error) {
    if (error instanceof PageFault) {
      vcpu.setSregs({ ...sregs, cr2: error.address });
      inject(vcpu, PF_VECTOR, error.errorCode);
    } else if (error instanceof Exception) {
      // A trap has RIP behind the instruction, a fault at it.
      if (error.vector === BP_VECTOR) vcpu.setRegs({ ...regs, rip: machine.rip });
      inject(vcpu, error.vector, error.errorCode);
    } else {
      throw error;
    }
    return { kind: "done", name: assist.name };
  }
  const changed: Registers = { ...regs, rip: machine.rip, rflags: machine.rflags };
  NAMES.forEach((name, i) => changed[name] = machine.registers[i]!);
  vcpu.setRegs(changed);
  if (machine.fsBase !== sregs.fs.base || machine.gsBase !== sregs.gs.base) {
    vcpu.setSregs({
      ...sregs,
      fs: { ...sregs.fs, base: machine.fsBase },
      gs: { ...sregs.gs, base: machine.gsBase },
    });
  }
  return { kind: "done", name: assist.name };
}

/** The bytes at RIP: as many of the longest instruction's as can be read. */
function readCode(
  read: (linear: bigint, length: number) => Uint8Array<ArrayBuffer>,
  rip: bigint,
): Uint8Array<ArrayBuffer> {
  try {
    return read(rip, MAX_INSTRUCTION);
  } catch (error) {
    if (error instanceof EntryChanged) throw error;
    const rest = Number(PAGE - (rip % PAGE)); // the next page is not there
    try {
      return read(rip, Math.min(rest, MAX_INSTRUCTION));
    } catch {
      return new Uint8Array(0);
    }
  }
}

function inject(vcpu: VcpuState, vector: number, errorCode: number | undefined): void {
  const events = vcpu.getEvents();
  vcpu.setEvents({
    ...events,
    flags: 0, // leave NMI, SIPI and shadow as they are
    exception: {
      injected: 1,
      nr: vector,
      has_error_code: errorCode === undefined ? 0 : 1,
      pending: 0,
      error_code: errorCode ?? 0,
    },
  });
}
