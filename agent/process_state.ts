/**
 * What programs inherit of the agent's process, as a login on Debian would have it.
 *
 * Signals are left to spawn.ts, the score for the out-of-memory killer to memory_watch.ts.
 *
 * @module
 */
import { checked, libc, SYS_CLOSE_RANGE } from "./libc.ts";

const RLIMIT_NOFILE = 7; // include/uapi/asm-generic/resource.h
/** Linux, include/uapi/linux/fs.h: INR_OPEN_CUR. More breaks what uses select(2). */
const FILES = 1024n;
/** Linux, fs/file.c: sysctl_nr_open, which systemd gives to what it starts. */
const MOST_FILES = 1024n * 1024n;
/** login.defs(5): UMASK. */
const UMASK = 0o022;

/** include/uapi/linux/close_range.h */
const CLOSE_RANGE_CLOEXEC = 4n;

/**
 * Makes this process one whose children have nothing of it. Deno raises its limit of open files to the
 * most there may be when it starts, and programs inherit limits: the agent has few files open and gives
 * it back. What the agent was left open by its own parent ends with each program that is started.
 *
 * @param guest whether the most there may be is the agent's to set
 */
export function becomeInvisible(guest: boolean): void {
  const c = libc();
  const limit = new BigUint64Array(2); // struct rlimit { rlim_t rlim_cur, rlim_max; }
  const bytes = new Uint8Array(limit.buffer);
  checked(c.getrlimit(RLIMIT_NOFILE, bytes), "read the limit of open files");
  const most = guest ? MOST_FILES : limit[1]!;
  limit.set([most < FILES ? most : FILES, most]);
  checked(c.setrlimit(RLIMIT_NOFILE, bytes), "set the limit of open files");
  Deno.umask(UMASK);
  c.syscall3(SYS_CLOSE_RANGE, 3n, 0x7fff_ffffn, CLOSE_RANGE_CLOEXEC); // before Linux 5.11 it cannot
}
