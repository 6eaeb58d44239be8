/**
 * How VMs end, and how one sees that they have.
 *
 * @module
 */
import { KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE } from "../ffi/uapi/kvm.ts";
import type { ConsoleLog } from "./legacy/console_log.ts";
import type { KvmVcpu } from "./kvm/kvm_vcpu.ts";
import type { VcpuExit } from "./vcpu/vcpu_messages.ts";

const RFLAGS_IF = 1n << 9n;

/** How a VM ended. */
export type VmOutcome =
  /** The guest switched itself off, or halted for good. */
  | { readonly kind: "poweroff" }
  /** The guest reset itself. */
  | { readonly kind: "reset" }
  /** The guest's kernel panicked. */
  | { readonly kind: "panic"; readonly message: string }
  /** The guest's kernel panicked because its memory was used up. */
  | { readonly kind: "out-of-memory"; readonly message: string }
  /** The guest's processor faulted while it handled a fault in handling a fault. */
  | { readonly kind: "triple-fault"; readonly message: string }
  /** Every vCPU halted with interrupts off, and the kernel did not say why. */
  | { readonly kind: "halted" }
  /** KVM or cloudlet could not go on. */
  | { readonly kind: "internal-error"; readonly message: string }
  /** {@linkcode Vm.stop} was called. */
  | { readonly kind: "stopped" };

/** Whether a paused vCPU can never go on: it halted with interrupts off, or was never started. */
export function haltedForGood(vcpu: KvmVcpu): boolean {
  const state = vcpu.getMpState();
  if (state === KVM_MP_STATE_RUNNABLE) return false;
  if (state !== KVM_MP_STATE_HALTED) return true; // a processor that was never started
  return (vcpu.getRegs().rflags & RFLAGS_IF) === 0n;
}

/** What the kernel said on the console before it ended. */
export type LastWords = Pick<ConsoleLog, "panic" | "down">;

function panicOutcome({ panic: message }: LastWords): VmOutcome | undefined {
  if (message === undefined) return undefined;
  const kind = /out of memory|deadlocked on memory/i.test(message) ? "out-of-memory" : "panic";
  return { kind, message };
}

/** How a VM ended whose vCPUs have all halted for good. */
export function outcomeOfHalt(log: LastWords): VmOutcome {
  return log.down ? { kind: "poweroff" } : panicOutcome(log) ?? { kind: "halted" };
}

/** How a VM ended of which a vCPU has ended by itself. */
export function outcomeOfExit(
  exit: Exclude<VcpuExit, { kind: "stopped" }>,
  log: LastWords,
): VmOutcome {
  switch (exit.kind) {
    case "reset":
      return panicOutcome(log) ?? { kind: "reset" };
    case "poweroff":
      return { kind: "poweroff" };
    case "triple-fault":
      return {
        kind: "triple-fault",
        message: `triple fault at RIP 0x${exit.rip.toString(16)}`,
      };
    case "internal-error":
      return exit;
    default:
      return exit satisfies never;
  }
}
