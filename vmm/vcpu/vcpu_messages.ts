/**
 * What the main thread and a vCPU thread tell each other.
 *
 * @module
 */
import type { XsaveComponent } from "../assist/xsave.ts";
import type { MmioRegion } from "./bus.ts";
import type { MemoryDescription } from "../memory/guest_memory.ts";

/** Everything that a thread needs to run a vCPU; the main thread owns all of it. */
export interface VcpuDescription {
  /** APIC id. */
  readonly id: number;
  /** Descriptor of the vCPU. */
  readonly fd: number;
  /** Descriptor of the VM. */
  readonly vmFd: number;
  /** Address of kvm_run in this process. */
  readonly runAddress: bigint;
  /** Bytes mapped there. */
  readonly runLength: number;
  /** Bytes of the XSAVE area beyond the fixed structure; 0 for the fixed one. */
  readonly xsaveSize: number;
  /** Whether to do the instructions that KVM cannot emulate. */
  readonly assists: boolean;
  /** Of `compareExchangeCode()`. */
  readonly compareExchange: bigint;
  /** Where components lie in the XSAVE area. */
  readonly xsaveComponents: readonly XsaveComponent[];
  /** Guest memory. */
  readonly memory: MemoryDescription;
  /** Words of {@linkcode VcpuControl}. */
  readonly control: SharedArrayBuffer;
  /** Registers of the serial port. */
  readonly serial: SharedArrayBuffer;
  /** Ring of what the serial port sends. */
  readonly console: SharedArrayBuffer;
  /** Devices on the memory bus. */
  readonly regions: readonly MmioRegion[];
}

/** Why a vCPU thread stopped running its vCPU for good. */
export type VcpuExit =
  | { readonly kind: "stopped" }
  | { readonly kind: "reset" }
  | { readonly kind: "poweroff" }
  | { readonly kind: "triple-fault"; readonly rip: bigint }
  | { readonly kind: "internal-error"; readonly message: string };

/** To a vCPU thread. */
export type ToVcpu =
  /** Run this vCPU, and no other one. */
  | { readonly type: "run"; readonly description: VcpuDescription }
  /** Run this vCPU, too; what there is to say of it goes to the port. */
  | {
    readonly type: "host";
    readonly description: VcpuDescription;
    readonly port: MessagePort;
    /** Of `runCallCode()`. */
    readonly code: bigint;
  }
  /** End; there are no vCPUs. */
  | { readonly type: "end" };

/** From a vCPU thread. */
export type FromVcpu =
  | { readonly type: "loaded" }
  | { readonly type: "ended"; readonly exit: VcpuExit }
  | { readonly type: "serial-room" };
