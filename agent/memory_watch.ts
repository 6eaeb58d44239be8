/**
 * How much memory a program used, and whether the kernel ran out of it.
 *
 * @module
 */
import { libc } from "./libc.ts";

let spared = false;

/** Tells the kernel to end anything else before this process when memory is used up. */
export function spareAgent(): void {
  Deno.writeTextFileSync("/proc/self/oom_score_adj", "-1000"); // proc(5): OOM_SCORE_ADJ_MIN
  spared = true;
}

/** Takes from a new child what it inherited of that. @param pid the child */
export function exposeChild(pid: number): void {
  if (!spared) return;
  try {
    Deno.writeTextFileSync(`/proc/${pid}/oom_score_adj`, "0");
  } catch {
    // it has ended already
  }
}

/** In milliseconds: where a kernel is emulated, looking takes 50, and most programs are over. */
const FIRST_LOOK = 500;

/** The number behind a name in a file of lines `name[:] number ...`; 0 when it is not there. */
function numberIn(path: string, name: string): number {
  try {
    const match = new RegExp(`^${name}:?\\s+(\\d+)`, "m").exec(Deno.readTextFileSync(path));
    return Number(match?.[1] ?? 0);
  } catch {
    return 0; // the process has ended
  }
}

/**
 * Peak memory of one child.
 *
 * wait4(2) tells it, except that it never says less than the agent's own peak (see
 * `ChildUsage.peakBytes`). For smaller programs the kernel is asked from time to time while they
 * run, the more seldom the longer they do: looking costs several system calls.
 */
export class MemoryWatch {
  readonly #pid: number;
  readonly #agentPeak: number;
  #nextLook = FIRST_LOOK;
  #seen = 0;

  /** @param pid the child, just started */
  constructor(pid: number) {
    this.#pid = pid;
    const usage = new Uint8Array(new ArrayBuffer(144)); // struct rusage
    libc().getrusage(0, usage); // RUSAGE_SELF
    this.#agentPeak = Number(new DataView(usage.buffer).getBigInt64(32, true)) * 1024; // ru_maxrss
  }

  /** Looks now and then. @param age of the child in milliseconds */
  look(age: number): void {
    if (age < this.#nextLook) return;
    this.#nextLook = age * 2;
    this.#seen = numberIn(`/proc/${this.#pid}/status`, "VmHWM") * 1024;
  }

  /**
   * The peak in bytes; 0 when it is not known.
   *
   * @param reported what wait4(2) said
   */
  peak(reported: number): number {
    return reported > this.#agentPeak ? reported : this.#seen;
  }
}

/** Kills by the kernel's out-of-memory killer since the last look: /proc/vmstat `oom_kill`. */
class OutOfMemoryKills {
  #seen = 0;

  /** Counts from now on. */
  start(): void {
    this.#seen = numberIn("/proc/vmstat", "oom_kill");
  }

  /** Whether there was one since the last look. */
  happened(): boolean {
    const before = this.#seen;
    this.start();
    return this.#seen > before;
  }
}

/** The one count that this kernel has. */
export const outOfMemoryKills: OutOfMemoryKills = new OutOfMemoryKills();
