/**
 * The credentials of this thread (credentials(7)): user, group and supplementary groups.
 *
 * @module
 */
import { checked, libc } from "./libc.ts";

/** As whom a program runs. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

// arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h
const [SYS_SETGROUPS, SYS_SETRESUID, SYS_SETRESGID] = Deno.build.arch === "x86_64"
  ? [116n, 117n, 119n]
  : [159n, 147n, 149n];

/**
 * Does `work` with these credentials, and becomes root again. A child that `work` makes keeps them:
 * what it executes has no way back, since execve(2) saves the effective ids.
 *
 * The system calls are made directly: glibc's functions would change all threads (nptl(7)).
 *
 * @throws {CloudletError} `guest` when the kernel refuses
 */
export function withCredentials<T>({ uid, gid, groups }: Credentials, work: () => T): T {
  const c = libc();
  const call = (result: bigint, what: string) => checked(Number(result), what);
  const list = new Uint8Array(new Uint32Array(groups).buffer);
  call(c.syscall_buffer(SYS_SETGROUPS, BigInt(groups.length), list), "set the groups");
  try {
    // The saved id stays 0, by which the way back is open.
    call(c.syscall3(SYS_SETRESGID, BigInt(gid), BigInt(gid), 0n), "set the group");
    call(c.syscall3(SYS_SETRESUID, BigInt(uid), BigInt(uid), 0n), "set the user");
    return work();
  } finally {
    call(c.syscall3(SYS_SETRESUID, 0n, 0n, 0n), "become root again");
    call(c.syscall3(SYS_SETRESGID, 0n, 0n, 0n), "become root again");
    call(c.syscall_buffer(SYS_SETGROUPS, 0n, new Uint8Array(4)), "leave the groups");
  }
}
