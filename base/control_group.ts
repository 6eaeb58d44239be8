/**
 * What this process may use of its host: all of it, or what its control groups allow. Containers and
 * services are limited so, and see the whole host's memory nevertheless.
 *
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst ("memory.max", "cpu.max"), cgroup-v1/memory.rst
 * and scheduler/sched-bwc.rst; cgroups(7), proc_pid_mountinfo(5).
 *
 * @module
 */
import { dirname, join, relative } from "node:path";
import { readKernelText } from "./files.ts";

/** Limits of the control groups that a process is in; Infinity for none. */
export interface GroupLimits {
  /** Bytes. */
  readonly memory: number;
  /** How many run at once; may be a fraction. */
  readonly processors: number;
}

/** What there is to use. */
export interface HostResources {
  /** Bytes. */
  readonly memory: number;
  /** A whole number, at least 1. */
  readonly processors: number;
}

/** A hierarchy of groups: where it is mounted, and which of its groups is the mount's root. */
interface Hierarchy {
  readonly version: 1 | 2;
  readonly controllers: readonly string[];
  readonly root: string;
  readonly at: string;
}

/** Mount points have spaces and the like as octal escapes. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}

function hierarchies(mountinfo: string): Hierarchy[] {
  return mountinfo.split("\n").flatMap((line): Hierarchy[] => {
    // ID, parent, device, root, mount point, options, tags, " - ", type, source, super options
    const [before, after] = line.split(" - ");
    const [, , , root, at] = before?.split(" ") ?? [];
    const [type, , options = ""] = after?.split(" ") ?? [];
    if (root === undefined || at === undefined) return [];
    const found = { root: unescape(root), at: unescape(at) };
    if (type === "cgroup2") return [{ version: 2, controllers: ["memory", "cpu"], ...found }];
    if (type === "cgroup") return [{ version: 1, controllers: options.split(","), ...found }];
    return [];
  });
}

/** Directories of our own group in a hierarchy and of its ancestors, as far as they are mounted. */
function groupsIn(hierarchy: Hierarchy, groups: string, root: string): string[] {
  const own = groups.split("\n").map((line) => /^\d+:([^:]*):(.*)$/.exec(line)).find((match) =>
    hierarchy.version === 2
      ? match?.[1] === ""
      : match?.[1]?.split(",").some((name) => hierarchy.controllers.includes(name))
  )?.[2];
  if (own === undefined) return [];
  const top = join(root, hierarchy.at);
  // Of a group beside or above the mount's root we see no more than that root.
  const below = relative(hierarchy.root, own);
  const directories: string[] = [];
  let path = below.startsWith("..") ? top : join(top, below);
  for (; path.length > top.length; path = dirname(path)) directories.push(path);
  return [...directories, top];
}

function memoryLimit(directory: string, version: 1 | 2): number {
  const text = readKernelText(
    join(directory, version === 2 ? "memory.max" : "memory.limit_in_bytes"),
  );
  const bytes = Number(text ?? "max");
  // Version 1 says "no limit" by the largest multiple of the page size.
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : Infinity;
}

function processorLimit(directory: string, version: 1 | 2): number {
  const [quota, period] = version === 2
    ? (readKernelText(join(directory, "cpu.max")) ?? "").split(" ")
    : ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map((name) =>
      readKernelText(join(directory, name))
    );
  const processors = Number(quota || "max") / Number(period || "max");
  return Number.isFinite(processors) && processors > 0 ? processors : Infinity;
}

/**
 * The limits of this process's control groups and of all groups above them.
 *
 * @param root directory below which `/proc` and the mount points are; `/` but in tests
 */
export function controlGroupLimits(root = "/"): GroupLimits {
  const groups = readKernelText(join(root, "proc/self/cgroup")) ?? "";
  let [memory, processors] = [Infinity, Infinity];
  for (const hierarchy of hierarchies(readKernelText(join(root, "proc/self/mountinfo")) ?? "")) {
    const { version, controllers } = hierarchy;
    for (const directory of groupsIn(hierarchy, groups, root)) {
      if (controllers.includes("memory")) {
        memory = Math.min(memory, memoryLimit(directory, version));
      }
      if (controllers.includes("cpu")) {
        processors = Math.min(processors, processorLimit(directory, version));
      }
    }
  }
  return { memory, processors };
}

/**
 * What this process may use: what the host has, or less where control groups say so.
 *
 * @param root as for {@linkcode controlGroupLimits}
 */
export function hostResources(root = "/"): HostResources {
  const { memory, processors } = controlGroupLimits(root);
  return {
    memory: Math.min(Deno.systemMemoryInfo().total, memory),
    processors: Math.max(1, Math.min(navigator.hardwareConcurrency, Math.floor(processors))),
  };
}
