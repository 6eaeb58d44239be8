/**
 * As whom a program of an image runs: what `USER` in an image's configuration means.
 *
 * The OCI image specification 1.1, "User": `user`, `uid`, `user:group`, `uid:gid`, `uid:group`,
 * `user:gid`, looked up in the image's /etc/passwd and /etc/group.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { checked, libc } from "./libc.ts";

/** An account of the image. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
  /** Home directory; undefined when /etc/passwd does not know the account. */
  readonly home: string | undefined;
}

/** Text of a file; "" when there is none. */
export type ReadText = (path: string) => string;

const MAX_GROUPS = 65_536; // NGROUPS_MAX of include/uapi/linux/limits.h
const NO_ID = 0xffff_ffff; // (uid_t)-1: "unchanged" to setresuid(2)

/** The lines of a file of the kind of passwd(5) and group(5), split. */
function records(text: string): string[][] {
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

function idOf(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return undefined;
  const id = Number(text);
  return id < NO_ID ? id : undefined;
}

function unknown(spec: string, what: string): CloudletError {
  return new CloudletError(`Cannot run the program as ${JSON.stringify(spec)}: ${what}`, {
    code: "invalid-input",
    remedy: "use an image that has the account, or a number",
  });
}

/**
 * The account that `spec` names.
 *
 * @param spec as in an image's configuration; not empty
 * @param read reads a file of the image
 * @throws {CloudletError} `invalid-input` for a name that the image does not have
 */
export function findAccount(spec: string, read: ReadText = readText): Account {
  const colon = spec.indexOf(":");
  const user = colon < 0 ? spec : spec.slice(0, colon);
  const group = colon < 0 ? undefined : spec.slice(colon + 1);
  const passwd = records(read("/etc/passwd"));
  const groups = records(read("/etc/group"));
  const entry = passwd.find(([name]) => name === user) ??
    passwd.find(([, , uid]) => idOf(uid) !== undefined && idOf(uid) === idOf(user));
  const uid = idOf(entry?.[2]) ?? idOf(user);
  if (uid === undefined) throw unknown(spec, `the image has no user ${JSON.stringify(user)}`);
  const home = entry?.[5] || undefined;
  if (group !== undefined) {
    const gid = idOf(groups.find(([name]) => name === group)?.[2]) ?? idOf(group);
    if (gid === undefined) throw unknown(spec, `the image has no group ${JSON.stringify(group)}`);
    return { uid, gid, groups: [], home };
  }
  const name = entry?.[0];
  const member = groups.filter(([, , , members]) =>
    name !== undefined && members?.split(",").includes(name)
  );
  const ids = member.flatMap(([, , gid]) => idOf(gid) ?? []).slice(0, MAX_GROUPS);
  return { uid, gid: idOf(entry?.[3]) ?? 0, groups: ids, home };
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return ""; // a name is unknown then, a number is taken as it is
  }
}

// arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h
const [SYS_SETGROUPS, SYS_SETRESUID, SYS_SETRESGID] = Deno.build.arch === "x86_64"
  ? [116n, 117n, 119n]
  : [159n, 147n, 149n];

/**
 * Does `work` with this thread in the account, and becomes root again. A child that `work` makes
 * stays in the account: what it executes has no way back, since execve(2) saves the effective ids.
 *
 * The system calls are made directly: glibc's functions would change all threads (nptl(7)).
 */
export function inAccount<T>({ uid, gid, groups }: Account, work: () => T): T {
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
