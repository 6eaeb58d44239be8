/**
 * What the guest tests boot: from the environment, or what cloudlet boots on this host.
 *
 * `CLOUDLET_TEST_KERNEL` and `CLOUDLET_TEST_KERNEL_SMP` name kernels that need no modules,
 * `CLOUDLET_TEST_INITRAMFS` an initramfs with builder/initramfs/init.sh as its /init.
 *
 * @module
 */
import { join } from "node:path";
import { silentProgress } from "../../base/progress.ts";
import { cpioArchive, type CpioEntry } from "../../builder/initramfs/mod.ts";
import { type BootFiles, Builder } from "../../builder/artifacts.ts";
import type { HostMachine } from "../../node/host_machine.ts";
import { microVms } from "../../node/microvms.ts";
import { defaultKernel } from "../../vmm/host_traits.ts";
import { MarkScanner } from "../../vmm/marks.ts";
import { Vm } from "../../vmm/vm.ts";
import type { VmConfig } from "../../vmm/vm_config.ts";
import type { VmOutcome } from "../../vmm/vm_outcome.ts";

const builder = new Builder({ progress: silentProgress });

/** The kernel that tests ask for: its path, or its name. */
export function testKernel(vcpus = 1): string {
  const given = Deno.env.get(vcpus > 1 ? "CLOUDLET_TEST_KERNEL_SMP" : "CLOUDLET_TEST_KERNEL");
  return given ?? defaultKernel();
}

/** Bytes of memory in which a guest that does little is at home: Debian's kernel alone takes 60 MiB. */
export function littleMemory(): number {
  return (testKernel() === "debian" ? 128 : 48) << 20;
}

/** Kernel and initramfs. */
export async function testBoot(vcpus = 1): Promise<BootFiles> {
  const { kernel, initramfs } = await builder.bootFiles(testKernel(vcpus), vcpus);
  const given = Deno.env.get("CLOUDLET_TEST_INITRAMFS");
  return { kernel, initramfs: given === undefined ? initramfs : [given] };
}

/** A kernel that has everything built in, for guests without cloudlet's /init. */
export async function testBuiltKernel(): Promise<string> {
  return Deno.env.get("CLOUDLET_TEST_KERNEL") ?? (await builder.kernel()).vmlinux;
}

/** A machine of a language; all tests that use it share its snapshot. */
export function testMachine(language: string, id: string): Promise<HostMachine> {
  return microVms({ kernel: testKernel() })({
    id,
    language,
    memory: 1024,
    vcpus: 1,
    packages: [],
    signal: new AbortController().signal,
    progress: silentProgress,
  });
}

/**
 * Whether there is a KVM to test with. Tests that need it are ignored where there is none, except in
 * CI: there its absence is a failure, so that a run that booted no guest cannot pass.
 */
export function hasKvm(device = "/dev/kvm"): boolean {
  try {
    Deno.openSync(device, { read: true, write: true }).close();
    return true;
  } catch (cause) {
    if (Deno.env.get("CI") === "true") {
      throw new Error(`Cannot test guests: ${device} cannot be opened, and CI needs it`, { cause });
    }
    return false;
  }
}

/** Compiles a C program, linked statically, and returns the executable. */
export async function compile(source: string, flags: readonly string[] = []): Promise<Uint8Array> {
  const directory = await Deno.makeTempDir();
  try {
    const program = join(directory, "program");
    const path = new URL(`./fixtures/${source}`, import.meta.url).pathname;
    const { success, stderr } = await new Deno.Command("gcc", {
      args: ["-O2", "-static", "-Wall", "-Wextra", "-Werror", ...flags, "-o", program, path],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return await Deno.readFile(program);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** What a script in a guest did. */
export interface ScriptResult {
  /** How the VM ended; "stopped" when the script had ended before. */
  readonly outcome: VmOutcome;
  /** What the script wrote. */
  readonly output: string;
  /** Its exit code, when it ended. */
  readonly code: number | undefined;
  /** Everything on the console. */
  readonly console: string;
  /** What the guest's out-of-memory killer said. */
  readonly outOfMemory: readonly string[];
  /** Instructions that cloudlet did because KVM could not. */
  readonly assists: number;
}

/** How {@linkcode runScript} runs. */
export interface ScriptOptions extends Partial<VmConfig> {
  /** Executables for the guest's /cloudlet, by name. */
  readonly programs?: Readonly<Record<string, Uint8Array>>;
  /** Whether to wait for the VM's own end after the script's. */
  readonly untilEnd?: boolean;
  /** Called with the VM when the script begins. */
  readonly onBegin?: (vm: Vm) => void;
}

/** Boots a guest that runs a shell script. */
export async function runScript(
  script: string,
  options: ScriptOptions = {},
): Promise<ScriptResult> {
  const { programs = {}, untilEnd = false, onBegin, ...config } = options;
  const nonce = crypto.randomUUID().replaceAll("-", "");
  const utf8 = new TextEncoder();
  const entries: CpioEntry[] = [
    { type: "directory", path: "cloudlet", mode: 0o700 },
    { type: "file", path: "cloudlet/nonce", mode: 0o600, content: utf8.encode(`${nonce}\n`) },
    { type: "file", path: "cloudlet/exec", mode: 0o700, content: utf8.encode(`${script}\n`) },
    ...Object.entries(programs).map(([name, content]): CpioEntry => ({
      type: "file",
      path: `cloudlet/${name}`,
      mode: 0o755,
      content,
    })),
  ];
  const scanner = new MarkScanner(nonce);
  const decoder = new TextDecoder();
  const exited = Promise.withResolvers<void>();
  let output = "";
  let code: number | undefined;
  let within = false;
  const made: { vm?: Vm } = {};
  const { kernel, initramfs } = await testBoot(config.vcpus);
  await using vm = await Vm.create({
    kernel,
    initramfs: [...initramfs, await cpioArchive(entries)],
    ...config,
    serialOutput(chunk) {
      for (const event of scanner.push(chunk)) {
        if (event.kind === "output") {
          if (within) output += decoder.decode(event.bytes, { stream: true });
        } else if (event.kind === "begin") {
          within = true;
          onBegin?.(made.vm!);
        } else if (event.kind === "exit") {
          within = false;
          code = event.code;
          exited.resolve();
        }
      }
    },
  });
  made.vm = vm;
  vm.resume();
  await Promise.race([vm.outcome, ...(untilEnd ? [] : [exited.promise])]);
  if (!untilEnd) await vm.stop();
  const outcome = await vm.outcome;
  return {
    outcome,
    output,
    code,
    console: vm.consoleText,
    outOfMemory: vm.outOfMemory,
    assists: vm.exits.reduce((sum, { assists }) => sum + assists, 0),
  };
}
