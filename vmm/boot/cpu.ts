/**
 * What the guest's processors say of themselves: CPUID leaves and model-specific registers.
 *
 * @module
 */
import type { CpuidEntry, KvmVcpu, Msr } from "../kvm/kvm_vcpu.ts";

const LEAF1_ECX_TSC_DEADLINE = 1 << 24;
const LEAF1_ECX_HYPERVISOR = 1 << 31;
const LEAF1_EDX_HTT = 1 << 28;
const TOPOLOGY_SMT = 1 << 8; // leaf 0xb ECX[15:8]
const TOPOLOGY_CORE = 2 << 8;

const MSR_IA32_MISC_ENABLE = 0x1a0;
const MISC_ENABLE_FAST_STRING = 1n << 0n;

/** What {@linkcode cpuidFor} has to know. */
export interface CpuTopology {
  /** APIC id of this vCPU. */
  readonly id: number;
  /** Number of vCPUs: one package of cores without hyper-threads. */
  readonly count: number;
  /** Whether KVM emulates the local APIC timer's TSC deadline mode. */
  readonly tscDeadline: boolean;
}

function bitsFor(count: number): number {
  return count <= 1 ? 0 : Math.ceil(Math.log2(count));
}

/**
 * The leaves for one vCPU. KVM's supported set carries the topology and APIC id of the processor
 * that asked, and leaves the hypervisor bit out (api.rst 4.46: "TSC_DEADLINE ... is not reported").
 *
 * @param supported what KVM supports on this host
 */
export function cpuidFor(supported: readonly CpuidEntry[], topology: CpuTopology): CpuidEntry[] {
  const { id, count } = topology;
  const coreBits = bitsFor(count);
  return supported.map((entry) => {
    const leaf = { ...entry };
    switch (leaf.function >>> 0) {
      case 0x1:
        leaf.ebx = ((leaf.ebx & 0xffff) | (count << 16) | (id << 24)) >>> 0;
        leaf.ecx = (leaf.ecx | LEAF1_ECX_HYPERVISOR) >>> 0;
        if (topology.tscDeadline) leaf.ecx = (leaf.ecx | LEAF1_ECX_TSC_DEADLINE) >>> 0;
        leaf.edx = (count > 1 ? leaf.edx | LEAF1_EDX_HTT : leaf.edx & ~LEAF1_EDX_HTT) >>> 0;
        break;
      case 0x4: // Intel: cores per package and threads per cache
        if ((leaf.eax & 0x1f) !== 0) {
          const shared = (leaf.eax >>> 5 & 7) >= 3 ? count - 1 : 0;
          leaf.eax = ((leaf.eax & 0x3fff) | (shared << 14) | ((1 << coreBits) - 1 << 26)) >>> 0;
        }
        break;
      case 0xb:
      case 0x1f:
        leaf.edx = id;
        if (leaf.index === 0) {
          Object.assign(leaf, { eax: 0, ebx: 1, ecx: TOPOLOGY_SMT });
        } else if (leaf.index === 1) {
          Object.assign(leaf, { eax: coreBits, ebx: count, ecx: TOPOLOGY_CORE | 1 });
        } else {
          Object.assign(leaf, { eax: 0, ebx: 0, ecx: leaf.index });
        }
        break;
      case 0x8000_0008: // AMD: ECX[15:12] APIC id bits, ECX[7:0] cores less one
        leaf.ecx = ((leaf.ecx & ~0xf0ff) | (coreBits << 12) | (count - 1)) >>> 0;
        break;
      case 0x8000_001e: // AMD: extended APIC id, core id with one thread, node 0
        Object.assign(leaf, { eax: id, ebx: id, ecx: 0 });
        break;
    }
    return leaf;
  });
}

/** The MSRs that a boot needs; reset values do for the others. */
const BOOT_MSRS: readonly Msr[] = [
  { index: MSR_IA32_MISC_ENABLE, value: MISC_ENABLE_FAST_STRING },
];

/** Sets the MSRs of a vCPU that is about to boot; one that KVM refuses keeps its reset value. */
export function setBootMsrs(vcpu: KvmVcpu): void {
  for (const msr of BOOT_MSRS) vcpu.setMsrs([msr]);
}
