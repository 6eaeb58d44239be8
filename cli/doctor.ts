/**
 * Examines whether this host can run microVMs and build what they need, by trying each thing.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import { userInfo } from "node:os";
import { controlGroupLimits } from "../base/control_group.ts";
import { cacheDir } from "../base/dirs.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import { readKernelText, temporaryIn } from "../base/files.ts";
import { SyscallError } from "../ffi/errno.ts";
import { silentProgress } from "../base/progress.ts";
import { loadSettings } from "../base/settings.ts";
import { openDebian } from "../builder/debian/debian.ts";
import { findKernel } from "../builder/kernel/kernel.ts";
import { findUnpackedKernel } from "../builder/kernel/packaged.ts";
import { type HostKind, probeHost } from "../vmm/kvm/host_probe.ts";
import { defaultKernel, type HostTraits } from "../vmm/host_traits.ts";
import { Kvm } from "../vmm/kvm/kvm.ts";
import { GIB, MIB } from "../vmm/layout.ts";
import type { Finding, Verdict } from "./doctor_finding.ts";
import {
  type Fix,
  fixForDirectory,
  fixForFiles,
  fixForKvm,
  nearestDirectory,
} from "./doctor_fix.ts";
import { examineNetwork } from "./doctor_network.ts";

/** A kernel's source, its objects, the compiler and a first image. */
const DISK_TO_COMPILE = 8 * GIB;
/** Packages, an unpacked kernel and a first image. */
const DISK_TO_BUILD = 3 * GIB;
/** An image and its snapshots, when the kernel is there already. */
const DISK_TO_RUN = 2 * GIB;
const MEMORY_TO_RUN = 1 * GIB;
const MEMORY_TO_BUILD = 3 * GIB;
const MIN_FILES = 256;
const GOOD_FILES = 1024;
const MIRROR_TIMEOUT = 15_000; // milliseconds

function size(bytes: number): string {
  return bytes >= GIB ? `${(bytes / GIB).toFixed(1)} GiB` : `${Math.floor(bytes / MIB)} MiB`;
}

/** A field of the first processor in /proc/cpuinfo. */
function cpuField(cpuinfo: string, name: string): string {
  return new RegExp(`^${name}\\s*: (.*)$`, "m").exec(cpuinfo)?.[1] ?? "";
}

/**
 * Judges what /proc/cpuinfo says of the first processor.
 *
 * @param kind of the KVM that works here; undefined when none does
 */
export function judgeProcessor(
  architecture: string,
  cpuinfo: string,
  kind?: HostKind,
): Verdict {
  if (architecture !== "x86_64") {
    return {
      ok: "fail",
      detail: `this is ${architecture}; cloudlet's microVMs are x86-64`,
      remedy: "use a host with an x86-64 processor",
    };
  }
  const flags = new Set(cpuField(cpuinfo, "flags").split(" "));
  const virtualization = flags.has("vmx") ? "VT-x" : flags.has("svm") ? "AMD-V" : undefined;
  const model = cpuField(cpuinfo, "model name") || "x86-64";
  if (virtualization !== undefined) return { ok: "ok", detail: `${model}, with ${virtualization}` };
  const detail = `${model}, without VT-x and AMD-V: guest kernels can only be emulated`;
  if (kind === "software") return { ok: "ok", detail }; // as well as it can be here
  return {
    ok: "warn",
    detail,
    remedy: flags.has("hypervisor")
      ? "for full speed, switch nested virtualization on for this machine, or use a host of its own"
      : "for full speed, switch virtualization on in the firmware",
  };
}

function examineProcessor(): Verdict {
  let kind: HostKind | undefined;
  try {
    using kvm = Kvm.open();
    kind = probeHost(kvm);
  } catch {
    // its own check says why
  }
  return judgeProcessor(Deno.build.arch, readKernelText("/proc/cpuinfo") ?? "", kind);
}

/** Judges the kind of KVM, and says what follows from it. */
export function judgeKvm(kind: HostKind): Verdict {
  if (kind === "hardware") {
    return {
      ok: "ok",
      detail: "/dev/kvm, with hardware virtualization: guests boot Debian's own kernel, and " +
        "nothing has to be compiled",
    };
  }
  return {
    ok: "ok",
    detail: "/dev/kvm, software-only: guest programs compute at full speed, but a system call in " +
      "a guest takes about a millisecond, which a host with VT-x or AMD-V does faster; guests boot " +
      "a small kernel that is compiled once",
  };
}

function examineKvm(): Verdict {
  let kvm: Kvm;
  try {
    kvm = Kvm.open();
  } catch (error) {
    if (!(error instanceof CloudletError)) throw error;
    const { message, remedy, cause } = error;
    const flags = cpuField(readKernelText("/proc/cpuinfo") ?? "", "flags").split(" ");
    const fix = cause instanceof SyscallError
      ? fixForKvm(cause.code, new Set(flags), groupOf("/dev/kvm"), userInfo().username)
      : undefined;
    return { ok: "fail", detail: message, ...(remedy && { remedy }), ...(fix && { fix }) };
  }
  using _ = kvm;
  return judgeKvm(probeHost(kvm));
}

function groupOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).gid ?? undefined;
  } catch {
    return undefined;
  }
}

/** Whether guests of this host boot a kernel that has to be compiled. */
function compilesKernels(): boolean {
  try {
    return defaultKernel() === "built";
  } catch {
    return true; // no KVM: its own check says so
  }
}

/**
 * Judges what guests boot.
 *
 * @param kernel that guests of this host boot
 * @param version of the one that is in the cache, if there is one
 */
export function judgeKernel(kernel: HostTraits["kernel"], version: string | undefined): Verdict {
  const whose = kernel === "debian" ? "Debian's own" : "a small one, compiled from Debian's source";
  if (version !== undefined) return { ok: "ok", detail: `${whose}, ${version}, is in the cache` };
  if (kernel === "debian") {
    return { ok: "ok", detail: `${whose}; the first run fetches and unpacks its package` };
  }
  return {
    ok: "warn",
    detail: `${whose}; the first run does so, which takes some minutes`,
    remedy: "`cloudlet kernel build` or `doctor --fix` does it beforehand",
    fix: { by: "cloudlet", what: "make the kernel" },
  };
}

async function examineKernel(): Promise<Verdict> {
  let kernel: HostTraits["kernel"];
  try {
    kernel = defaultKernel();
  } catch {
    return { ok: "warn", detail: "which one guests need is not known", remedy: "see to KVM first" };
  }
  const found = await (kernel === "debian" ? findUnpackedKernel() : findKernel("up"));
  return judgeKernel(kernel, found?.version);
}

/** Kernel switches that keep users from making namespaces, and how to turn each one. */
export interface NamespaceSwitches {
  /** /proc/sys/kernel/unprivileged_userns_clone (Debian) */
  readonly clone: string | undefined;
  /** /proc/sys/user/max_user_namespaces */
  readonly max: string | undefined;
  /** /proc/sys/kernel/apparmor_restrict_unprivileged_userns (Ubuntu) */
  readonly apparmor: string | undefined;
}

/**
 * Judges user namespaces, in which the kernel's compiler runs.
 *
 * @param tried whether making one worked; undefined when there is no tool to try it with
 */
export function judgeNamespaces(
  tried: boolean | undefined,
  switches: NamespaceSwitches,
  root: boolean,
): Verdict {
  if (tried === true) return { ok: "ok", detail: "can be made" };
  const off = [
    ...(switches.clone === "0" ? ["kernel.unprivileged_userns_clone=1"] : []),
    ...(switches.max === "0" ? ["user.max_user_namespaces=10000"] : []),
    ...(switches.apparmor === "1" ? ["kernel.apparmor_restrict_unprivileged_userns=0"] : []),
  ];
  const fix: Fix | undefined = off.length > 0
    ? { by: "root", command: `sudo sysctl -w ${off.join(" ")}` }
    : undefined;
  const remedy = fix !== undefined
    ? `run as root: sysctl ${off.join(" ")}`
    : "allow user namespaces for this container or service, or build kernels as root";
  const how = fix && { fix };
  if (tried === undefined) {
    return off.length === 0 || root
      ? {
        ok: "ok",
        detail: "no switch of the kernel forbids them; not tried, for want of unshare(1)",
      }
      : { ok: "fail", detail: "the kernel forbids them; kernels cannot be built", remedy, ...how };
  }
  // Root can do without: the builder then only changes the root directory.
  if (root) {
    return { ok: "warn", detail: "cannot be made; kernels are built as root", remedy, ...how };
  }
  return { ok: "fail", detail: "cannot be made, so kernels cannot be built", remedy, ...how };
}

async function examineNamespaces(): Promise<Verdict> {
  let tried: boolean | undefined;
  try {
    const { success } = await new Deno.Command("unshare", {
      args: ["--user", "--map-root-user", "--mount", "--pid", "--fork", "true"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).output();
    tried = success;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const verdict = judgeNamespaces(tried, {
    clone: readKernelText("/proc/sys/kernel/unprivileged_userns_clone"),
    max: readKernelText("/proc/sys/user/max_user_namespaces"),
    apparmor: readKernelText("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
  }, Deno.uid() === 0);
  if (verdict.ok === "ok" || compilesKernels()) return verdict;
  return { ok: "ok", detail: `${verdict.detail}; but none has to be compiled here` };
}

/**
 * Judges how many bytes are free where the cache is.
 *
 * @param compiles whether a kernel has to be compiled here
 */
export function judgeDisk(free: number, directory: string, compiles = true): Verdict {
  const detail = `${size(free)} free in ${directory}`;
  const needed = compiles ? DISK_TO_COMPILE : DISK_TO_BUILD;
  if (free >= needed) return { ok: "ok", detail };
  return {
    ok: free >= DISK_TO_RUN ? "warn" : "fail",
    detail: `${detail}; building ${compiles ? "a kernel" : "images"} takes ${size(needed)}`,
    remedy: "free some disk space or point XDG_CACHE_HOME at a larger file system",
    fix: { by: "cloudlet", what: "remove what was left unfinished" },
  };
}

function examineDisk(): Verdict {
  const directory = cacheDir();
  try {
    using temporary = temporaryIn(directory);
    Deno.writeTextFileSync(temporary.path, "x");
  } catch (error) {
    const there = nearestDirectory(directory);
    const self = { uid: Deno.uid(), name: userInfo().username };
    return {
      ok: "fail",
      detail: `cannot write to ${directory}: ${messageOf(error)}`,
      remedy: "make the directory writable for you or point XDG_CACHE_HOME elsewhere",
      fix: fixForDirectory(there, Deno.statSync(there).uid, self),
    };
  }
  const { bavail, bsize } = statfsSync(directory);
  return judgeDisk(bavail * bsize, directory, compilesKernels());
}

/**
 * Judges the memory that this process may use.
 *
 * @param available bytes that the host has left
 * @param limit bytes that the control group allows; Infinity for no limit
 */
export function judgeMemory(available: number, limit: number): Verdict {
  const usable = Math.min(available, limit);
  const detail = `${size(usable)} available` +
    (usable < available ? ` by the control group's limit, ${size(available)} on the host` : "");
  if (usable >= MEMORY_TO_BUILD) return { ok: "ok", detail };
  return {
    ok: usable >= MEMORY_TO_RUN ? "warn" : "fail",
    detail: usable >= MEMORY_TO_RUN
      ? `${detail}; building kernels and images takes up to ${size(MEMORY_TO_BUILD)}`
      : `${detail}; a microVM takes ${size(MEMORY_TO_RUN)}`,
    remedy: usable < available ? "raise the control group's memory limit" : "end other programs",
  };
}

function examineMemory(): Verdict {
  return judgeMemory(Deno.systemMemoryInfo().available, controlGroupLimits().memory);
}

/**
 * Judges the limit of open files; a microVM has some 20, and each stream of a client one.
 *
 * @param limit as Deno leaves it, which raises the soft limit to the hard one
 */
export function judgeFiles(limit: number): Verdict {
  const detail = `${limit === Infinity ? "any number" : limit} may be open at once`;
  if (limit >= GOOD_FILES) return { ok: "ok", detail };
  return {
    ok: limit >= MIN_FILES ? "warn" : "fail",
    detail,
    remedy: `have root raise the hard limit to ${GOOD_FILES} (ulimit -Hn)`,
    fix: fixForFiles(GOOD_FILES),
  };
}

function examineFiles(): Verdict {
  const soft = /^Max open files +(\S+)/m.exec(readKernelText("/proc/self/limits") ?? "")?.[1];
  return judgeFiles(soft === undefined || soft === "unlimited" ? Infinity : Number(soft));
}

async function examineMirror(): Promise<Verdict> {
  const remarks: string[] = [];
  const { debian } = await loadSettings();
  // Everything but the packages: the sources, their signatures, the lists of packages.
  await openDebian({
    ...debian,
    maxAge: 0,
    progress: { ...silentProgress, info: (remark) => void remarks.push(remark) },
    fetch: { attempts: 1, timeout: MIRROR_TIMEOUT },
  });
  if (remarks.length === 0) return { ok: "ok", detail: "answers, and its signatures are good" };
  return {
    ok: "warn",
    detail: remarks.join("; "),
    remedy: "check the network and the sources when packages cannot be fetched",
  };
}

const CHECKS: readonly (readonly [name: string, check: () => Verdict | Promise<Verdict>])[] = [
  ["processor", examineProcessor],
  ["KVM", examineKvm],
  ["kernel", examineKernel],
  ["memory", examineMemory],
  ["disk", examineDisk],
  ["open files", examineFiles],
  ["user namespaces", examineNamespaces],
  ["network", examineNetwork],
  ["Debian mirror", examineMirror],
];

/** Carries out one check; what it throws is a failure that was found. */
export async function examineOne(
  name: string,
  check: () => Verdict | Promise<Verdict>,
): Promise<Finding> {
  try {
    return { name, ...await check() };
  } catch (error) {
    const remedy = error instanceof CloudletError ? error.remedy : undefined;
    return { name, ok: "fail", detail: messageOf(error), ...(remedy !== undefined && { remedy }) };
  }
}

/**
 * Examines the host. Changes nothing but the cache: the lists of packages are fetched into it.
 *
 * @returns one finding for each thing that cloudlet needs, in a fixed order
 */
export async function examine(): Promise<Finding[]> {
  return await Promise.all(CHECKS.map(([name, check]) => examineOne(name, check)));
}
