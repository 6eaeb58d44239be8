/**
 * Kernel configuration fragments: what goes in, and whether it stayed in.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import microvm from "./microvm.config" with { type: "text" };
import systemCallsByPageFault from "./patches/0001-x86-mm-system-calls-by-page-fault.patch" with {
  type: "text",
};
import receive64KiB from "./patches/0002-vsock-virtio-receive-64-kib.patch" with { type: "text" };
import exitLater from "./patches/0003-exit-address-spaces-later.patch" with { type: "text" };
import populateOthers from "./patches/0004-madvise-populate-other-processes.patch" with {
  type: "text",
};
import timer25Hz from "./patches/0005-timer-interrupts-25-hz.patch" with { type: "text" };
import adjtimex from "./patches/0006-adjtimex-hashes-nothing.patch" with { type: "text" };
import sendAtOnce from "./patches/0007-vsock-virtio-send-at-once.patch" with { type: "text" };
import stringsByHost from "./patches/0008-x86-strings-by-the-host.patch" with { type: "text" };
import smp from "./smp.config" with { type: "text" };

/** What a kernel is built for. */
export type KernelVariant = "up" | "smp";

/** Configuration fragments of a variant, in the order in which they are merged. */
export function configFragments(variant: KernelVariant): string[] {
  return variant === "smp" ? [microvm, smp] : [microvm];
}

/** Patches in the order in which they are applied. */
export const PATCHES: readonly string[] = [
  systemCallsByPageFault,
  receive64KiB,
  exitLater,
  populateOthers,
  timer25Hz,
  adjtimex,
  sendAtOnce,
  stringsByHost,
];

/** Options that a fragment or a `.config` sets; `n` for those named "is not set". */
export function parseConfig(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const line of text.split("\n")) {
    const set = /^(CONFIG_\w+)=(.*)$/.exec(line);
    const unset = /^# (CONFIG_\w+) is not set$/.exec(line);
    if (set) options.set(set[1]!, set[2]!);
    else if (unset) options.set(unset[1]!, "n");
  }
  return options;
}

/**
 * Checks that kconfig kept what the fragments ask for: it silently drops an option whose
 * dependencies are not met.
 *
 * @param config text of the final `.config`
 * @param fragments texts of the fragments; later ones win
 * @throws {CloudletError} `internal` naming each option that was changed
 */
export function checkConfig(config: string, fragments: readonly string[]): void {
  const actual = parseConfig(config);
  const wanted = new Map(fragments.flatMap((fragment) => [...parseConfig(fragment)]));
  const lost = [...wanted]
    .filter(([option, value]) => (actual.get(option) ?? "n") !== value)
    .map(([option, value]) => `${option}=${value} became ${actual.get(option) ?? "n"}`);
  if (lost.length > 0) {
    throw new CloudletError(`Cannot configure the kernel: ${lost.join(", ")}`, {
      code: "internal",
      remedy: "this kernel source does not know the option or lacks what it depends on; " +
        "correct builder/kernel/*.config",
    });
  }
}
