/**
 * What follows from the kind of KVM: all that the VMM does differently on the two.
 *
 * @module
 */
import { COPY_PORT } from "./layout.ts";
import { type HostKind, hostKind } from "./kvm/host_probe.ts";
import { Kvm } from "./kvm/kvm.ts";

/** How a host has to be treated. */
export interface HostTraits {
  /** The kernel that guests boot when nobody chose one, by the name that the builder gives it. */
  readonly kernel: "debian" | "built";
  /** Kernel parameters that guests need. */
  readonly kernelParameters: readonly string[];
  /**
   * Whether cloudlet does the instructions that KVM cannot emulate (vmm/assist). Where guest kernels
   * run on the processor there is none, and one that KVM reports nevertheless ends the VM.
   */
  readonly assists: boolean;
  /**
   * Whether the guest reads the host's TSC as it is: then a snapshot is good until the host starts
   * anew, since the TSC must not go back.
   */
  readonly hostTsc: boolean;
}

/**
 * CPU features whose instructions a software-only KVM does not emulate, or that it shows although
 * they do not work in the guest's kernel. CPUID cannot hide them there.
 */
const CLEARED =
  "smap,smep,cx16,fsgsbase,invpcid,pcid,rdrand,rdseed,erms,fsrm,rdpid,umip,pku,popcnt,xsaves,xsavec";

/** The traits of each kind. */
export const HOST_TRAITS: Readonly<Record<HostKind, HostTraits>> = {
  hardware: { kernel: "debian", kernelParameters: [], assists: false, hostTsc: false },
  software: {
    kernel: "built", // Debian's takes minutes to boot there
    kernelParameters: [
      `clearcpuid=${CLEARED}`,
      // A page fault takes two milliseconds there: 512 pages by one of them, where there is room.
      "transparent_hugepage=always",
      // Each page fault, and with it each system call, would ask whether it is one of KVM's own.
      "no-kvmapf",
      // The kernel has pages cleared and copied: by itself it takes a millisecond for one.
      `host-strings=${COPY_PORT}`,
      // Its clock stands still between a snapshot and its clones, as on other hosts. That of the TSC
      // goes on, and every timer of the kernel is due at once when a clone wakes up.
      "clocksource=kvm-clock",
    ],
    assists: true,
    hostTsc: true,
  },
};

/** The kernel for guests on this host, when nobody chose one. */
export function defaultKernel(): HostTraits["kernel"] {
  using kvm = Kvm.open();
  return HOST_TRAITS[hostKind(kvm)].kernel;
}
