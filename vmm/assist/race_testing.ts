/**
 * For tests: a thread that does `lock cmpxchg16b` as a vCPU's thread does it for the guest.
 *
 * @module
 */
import { workerScope } from "../../base/worker_scope.ts";
import type { Registers, SystemRegisters, VcpuState } from "../kvm/kvm_vcpu.ts";
import { GuestMemory, type MemoryDescription } from "../memory/guest_memory.ts";
import { PAGE_TABLES_ADDRESS } from "../layout.ts";
import { assistInstruction } from "./assist.ts";
import { compareExchange } from "./compare_exchange.ts";

/** Where the instruction is. */
export const CODE_AT = 0x10_0000;
/** Where what it changes is. */
export const DATA_AT = 0x10_1000;
/** `lock cmpxchg16b [rsi]` */
export const INSTRUCTION: Uint8Array<ArrayBuffer> = Uint8Array.of(0xf0, 0x48, 0x0f, 0xc7, 0x0e);

const ZF = 1n << 6n;
const ONE = 1n << 64n | 1n; // both halves count

/** To the thread. */
export interface Race {
  readonly memory: MemoryDescription;
  readonly code: bigint;
  /** How often it adds one. */
  readonly times: number;
}

/** The registers of a processor that is stopped at the instruction. */
class StoppedVcpu {
  regs = { rflags: 2n } as Registers;
  getRegs(): Registers {
    return { ...this.regs };
  }
  setRegs(registers: Registers): void {
    this.regs = { ...registers };
  }
  getSregs(): SystemRegisters {
    const segment = { base: 0n, selector: 0x10 };
    return {
      cr0: 1n << 31n,
      cr3: BigInt(PAGE_TABLES_ADDRESS),
      cr4: 1n << 5n,
      cs: segment,
      fs: segment,
      gs: segment,
    } as SystemRegisters;
  }
}

/** Adds one to both halves, so many times. */
export function race({ memory: description, code, times }: Race): void {
  using memory = GuestMemory.attach(description);
  const vcpu = new StoppedVcpu();
  const exchange = compareExchange(code);
  let known = 0n;
  for (let done = 0; done < times;) {
    const next = known + ONE;
    const mask = (1n << 64n) - 1n;
    const named = { rax: known & mask, rdx: known >> 64n, rbx: next & mask, rcx: next >> 64n };
    const others = { r8: 0n, r9: 0n, r10: 0n, r11: 0n, r12: 0n, r13: 0n, r14: 0n, r15: 0n };
    const pointers = { rsi: BigInt(DATA_AT), rdi: 0n, rsp: 0n, rbp: 0n, rip: BigInt(CODE_AT) };
    vcpu.regs = { ...named, ...others, ...pointers, rflags: 2n };
    assistInstruction(vcpu as unknown as VcpuState, memory, [], exchange);
    const won = (vcpu.regs.rflags & ZF) !== 0n;
    if (won) done++;
    known = won ? next : vcpu.regs.rdx << 64n | vcpu.regs.rax;
  }
}

const scope = workerScope<Race, "done">();
// The test imports this module, too, but nobody sends its thread a message.
scope.onmessage = ({ data }) => {
  race(data);
  scope.postMessage("done");
};
