/**
 * The kernel's command line: Documentation/admin-guide/kernel-parameters.txt.
 *
 * @module
 */
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
 * Puts the command line together.
 *
 * @param host what the kind of KVM asks for
 * @param devices parameters that announce devices
 * @param extra the user's own, last, so that they win
 */
export function commandLine(
  host: readonly string[],
  devices: readonly string[],
  extra: string | undefined,
): string {
  return [
    ...BASE,
    ...host,
    ...devices,
    ...(extra === undefined || extra === "" ? [] : [extra]),
  ].join(" ");
}
