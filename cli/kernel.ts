/**
 * `cloudlet kernel build`
 *
 * @module
 */
import { buildCommand, buildRouteMap } from "@stricli/core";
import type { KernelVariant } from "../builder/kernel/config.ts";
import { withBuilt } from "./built.ts";
import { writeLine } from "./output.ts";

const build = buildCommand({
  docs: {
    brief: "Build the guest kernel, or find it in the cache",
    fullDescription: "Compiles the guest kernel from Debian's source package with Debian's " +
      "compiler, both unpacked into the cache: the host needs neither. Takes some minutes once. " +
      "With --debian it is Debian's own kernel, which is only unpacked: guests boot that one on a " +
      "host with hardware KVM. Prints the path of the kernel.",
  },
  parameters: {
    flags: {
      smp: { kind: "boolean", brief: "for guests with several vCPUs", default: false },
      debian: { kind: "boolean", brief: "Debian's own, with modules", default: false },
      refresh: {
        kind: "boolean",
        brief: "ask the archive whether there is a newer one",
        default: false,
      },
    },
  },
  async func(flags: { smp: boolean; debian: boolean; refresh: boolean }) {
    const variant: KernelVariant = flags.smp ? "smp" : "up";
    await withBuilt(async (builder) => {
      const kernel = flags.debian
        ? await builder.debianKernel(flags.refresh)
        : await builder.kernel(variant, flags.refresh);
      writeLine(kernel.vmlinux);
    });
  },
});

/** The commands below `cloudlet kernel`. */
export const kernelRoutes = buildRouteMap({
  routes: { build },
  docs: { brief: "Build the kernel that microVMs boot" },
});
