/**
 * Whether a program waits for input, so that none is taken from its client before.
 *
 * Linux does not tell the writer of a pipe that somebody reads it. So the agent looks, now and then,
 * which system call each thread of the program's session sleeps in: proc(5), /proc/pid/syscall.
 *
 * @module
 */
import { sessionMembers } from "./descendants.ts";

/** System calls that sleep for input, by what their first argument is. */
interface WaitingCalls {
  /** A descriptor that is read. */
  readonly read: ReadonlySet<number>;
  /** An epoll instance. */
  readonly epoll: ReadonlySet<number>;
  /** Something else that may have any descriptor in it. */
  readonly other: ReadonlySet<number>;
}

/** arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h */
const CALLS: WaitingCalls = Deno.build.arch === "x86_64"
  ? {
    read: new Set([0, 19, 275, 276]), // read, readv, splice, tee
    epoll: new Set([232, 281, 441]), // epoll_wait, epoll_pwait, epoll_pwait2
    other: new Set([7, 23, 270, 271, 426]), // poll, select, pselect6, ppoll, io_uring_enter
  }
  : {
    read: new Set([63, 65, 76, 77]),
    epoll: new Set([22, 441]),
    other: new Set([72, 73, 426]), // pselect6, ppoll, io_uring_enter
  };

/** A system call that a thread sleeps in. */
interface SystemCall {
  /** Its number. */
  readonly number: number;
  /** Its first argument. */
  readonly first: number;
}

/** What a thread's /proc/pid/syscall says; undefined for one that runs, or sleeps elsewhere. */
export function parseSyscall(text: string): SystemCall | undefined {
  const [number, first] = text.split(" ");
  if (first === undefined || !/^\d+$/.test(number!)) return undefined;
  return { number: Number(number), first: Number(first) };
}

/** The descriptors that an epoll instance watches: proc(5), /proc/pid/fdinfo. */
export function watchedBy(fdinfo: string): number[] {
  return [...fdinfo.matchAll(/^tfd:\s*(\d+)/gm)].map(([, fd]) => Number(fd));
}

function isPipe(pid: number, fd: number, pipe: string): boolean {
  try {
    return Deno.readLinkSync(`/proc/${pid}/fd/${fd}`) === pipe;
  } catch {
    return false; // it was closed, or the process has ended
  }
}

function threadWaits(pid: number, thread: string, pipe: string): boolean {
  const call = parseSyscall(Deno.readTextFileSync(`/proc/${pid}/task/${thread}/syscall`));
  return call !== undefined && callWaits(pid, call, pipe);
}

function callWaits(pid: number, { number, first }: SystemCall, pipe: string): boolean {
  if (CALLS.read.has(number)) return isPipe(pid, first, pipe);
  if (CALLS.epoll.has(number)) {
    const watched = watchedBy(Deno.readTextFileSync(`/proc/${pid}/fdinfo/${first}`));
    return watched.some((fd) => isPipe(pid, fd, pipe));
  }
  return CALLS.other.has(number) && isPipe(pid, 0, pipe);
}

/**
 * Whether a thread of the session sleeps until there is input.
 *
 * The first thread of its leader is looked at first, which takes three system calls; the others only
 * when that one sleeps, as a shell does that waits for a command, or when all are to be looked at.
 *
 * @param leader process id of the session's leader
 * @param pipe what a link to the pipe says, such as `pipe:[123]`
 * @param all whether to look at all of them in any case
 */
export function sessionWaits(leader: number, pipe: string, all: boolean): boolean {
  try {
    const call = parseSyscall(Deno.readTextFileSync(`/proc/${leader}/syscall`));
    if (call !== undefined && callWaits(leader, call, pipe)) return true;
    if (call === undefined && !all) return false;
  } catch {
    // it has ended; what it has started may read
  }
  for (const pid of [leader, ...sessionMembers(leader).filter((pid) => pid !== leader)]) {
    try {
      for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
        if (threadWaits(pid, name, pipe)) return true;
      }
    } catch {
      // it ended meanwhile
    }
  }
  return false;
}

/** Milliseconds between two looks. */
const SHORTEST = 20;
const LONGEST = 1000;
/** What part of the time looks may take: the program has the same processor. */
const SHARE = 1 / 16;
/** Milliseconds between two looks at all threads. */
const ALL = 1000;

/** When to look; the longer a program has not read, and a look takes, the more seldom. */
export class InputDemand {
  readonly #began: number;
  #next: number;
  #nextOfAll: number;

  /** @param now in milliseconds */
  constructor(now: number) {
    this.#began = now;
    this.#next = now + SHORTEST;
    this.#nextOfAll = now + ALL;
  }

  /** Milliseconds until the next look. */
  wait(now: number): number {
    return Math.max(0, this.#next - now);
  }

  /** Whether the next look is at all threads. */
  isOfAll(now: number): boolean {
    return now >= this.#nextOfAll;
  }

  /** A look that began at `from` found that none is wanted. */
  looked(from: number, now: number): void {
    if (this.isOfAll(from)) this.#nextOfAll = now + ALL;
    const pause = Math.max(SHORTEST, (now - this.#began) / 4, (now - from) / SHARE);
    this.#next = now + Math.min(LONGEST, pause);
  }
}
