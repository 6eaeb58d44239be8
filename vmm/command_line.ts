/**
 * The kernel's command line: Documentation/admin-guide/kernel-parameters.txt.
 *
 * @module
 */
import type { HostKind } from "./host_probe.ts";

const BASE: readonly string[] = [
  "console=ttyS0",
  "quiet", // every character of the log is an exit
  "reboot=k", // through the keyboard controller's port, which the VMM watches
  "panic=-1", // at once
  "io_delay=none", // port 0x80 is not there to wait for
  "no_timer_check", // KVM's timers are right
  "random.trust_bootloader=on", // the seed in boot_params
];

/**
 * CPU features whose instructions a software-only KVM does not emulate, or that it shows although
 * they do not work in the guest's kernel. CPUID cannot hide them there.
 */
const CLEARED =
  "smap,smep,cx16,fsgsbase,invpcid,pcid,rdrand,rdseed,erms,fsrm,rdpid,umip,pku,popcnt,xsaves,xsavec";

/**
 * Puts the command line together.
 *
 * @param host the kind of KVM
 * @param devices parameters that announce devices
 * @param extra the user's own, last, so that they win
 */
export function commandLine(
  host: HostKind,
  devices: readonly string[],
  extra: string | undefined,
): string {
  return [
    ...BASE,
    ...(host === "software" ? [`clearcpuid=${CLEARED}`] : []),
    ...devices,
    ...(extra === undefined || extra === "" ? [] : [extra]),
  ].join(" ");
}
