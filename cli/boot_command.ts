/**
 * The command line of `cloudlet boot`; what it does is in boot.ts.
 *
 * @module
 */
import { buildCommand, type CommandContext, numberParser } from "@stricli/core";
import { leaseAll } from "../base/cache/lease.ts";
import { cacheDir } from "../base/dirs.ts";
import { withBuilt } from "./built.ts";
import { exitWith } from "./context.ts";
import { defaultKernel } from "../vmm/host_traits.ts";
import { MIB } from "../vmm/layout.ts";
import { parseMemory } from "./units.ts";
import { lazyImport } from "../base/lazy_import.ts";

/** Flags of `cloudlet boot`. */
export interface BootFlags {
  /** Name of an image to be the root. */
  readonly image?: string;
  /** `debian`, `built`, or the path of a kernel. */
  readonly kernel?: string;
  /** Number of vCPUs. */
  readonly vcpus: number;
  /** MiB. */
  readonly memory: number;
  /** Kernel parameters. */
  readonly cmdline?: string;
  /** Script to run. */
  readonly exec?: string;
  /** Seconds. */
  readonly timeout?: number;
  /** Whether to say how long the boot took. */
  readonly timeline: boolean;
}

/** `cloudlet boot` */
export const bootCommand = buildCommand({
  docs: {
    brief: "Boot a microVM to a shell on its serial console",
    fullDescription: "Without --image the root is the initramfs: busybox and nothing else. With " +
      "--exec the command's output goes to standard output and its exit code is passed on. " +
      "Leave the interactive console with Ctrl-].",
  },
  parameters: {
    flags: {
      image: {
        kind: "parsed",
        parse: String,
        placeholder: "image",
        brief: "image to be the root",
        optional: true,
      },
      kernel: {
        kind: "parsed",
        parse: String,
        placeholder: "kernel",
        brief: "debian, built or a file",
        optional: true,
      },
      vcpus: {
        kind: "parsed",
        parse: numberParser,
        placeholder: "count",
        brief: "number of vCPUs",
        default: "1",
      },
      memory: {
        kind: "parsed",
        parse: parseMemory,
        placeholder: "size",
        brief: "such as 256M or 1G",
        default: "256M",
      },
      cmdline: { kind: "parsed", parse: String, brief: "kernel parameters", optional: true },
      exec: {
        kind: "parsed",
        parse: String,
        placeholder: "script",
        brief: "shell script to run",
        optional: true,
      },
      timeout: {
        kind: "parsed",
        parse: numberParser,
        placeholder: "seconds",
        brief: "seconds",
        optional: true,
      },
      timeline: { kind: "boolean", brief: "tell how long the boot took", default: false },
    },
  },
  async func(this: CommandContext, flags: BootFlags) {
    const { image, exec, cmdline, timeout } = flags;
    const parts = await withBuilt(async (builder) => ({
      ...await builder.bootFiles(flags.kernel ?? defaultKernel(), flags.vcpus),
      ...(image !== undefined && { root: (await builder.image(image)).path }),
    }));
    const files = [parts.kernel, ...parts.initramfs, ...("root" in parts ? [parts.root] : [])];
    using _lease = await leaseAll(files, cacheDir());
    const { boot } = await lazyImport<typeof import("./boot.ts")>("./boot.ts", import.meta.url);
    const code = await boot({
      ...parts,
      vcpus: flags.vcpus,
      memory: flags.memory * MIB,
      timeline: flags.timeline,
      ...(cmdline !== undefined && { cmdline }),
      ...(exec !== undefined && { exec }),
      ...(timeout !== undefined && { timeoutSeconds: timeout }),
    });
    exitWith(this, code);
  },
});
