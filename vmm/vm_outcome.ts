/**
 * How VMs end, and how one sees that they have.
 *
 * @module
 */
import { KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE } from "../ffi/uapi/kvm.ts";
import type { KvmVcpu } from "./kvm_vcpu.ts";

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
