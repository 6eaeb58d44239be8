/**
 * As whom a program of an image runs: what `USER` in an image's configuration means.
 *
 * The OCI image specification 1.1, "User": `user`, `uid`, `user:group`, `uid:gid`, `uid:group`,
 * `user:gid`, looked up in the image's /etc/passwd and /etc/group. What that leaves open is docker's
 * custom (GetExecUser of moby/sys/user): an empty user is root, an empty group is none, a number is
 * never looked for among the names, and the group is one of the supplementary groups.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Credentials } from "./credentials.ts";

/** A user of the image. */
export interface ExecUser extends Credentials {
  /** Home directory; the root when /etc/passwd has none. */
  readonly home: string;
}

/** Text of a file; "" when there is none. */
export type ReadText = (path: string) => string;

const MAX_GROUPS = 65_536; // NGROUPS_MAX of include/uapi/linux/limits.h
const NO_ID = 0xffff_ffff; // (uid_t)-1: "unchanged" to setresuid(2)
const MAX_FILE = 16 * 1024 * 1024; // bytes of /etc/passwd and /etc/group, which the image chooses

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
    remedy: "use an image that has the user, or a number",
  });
}

/**
 * The user that `spec` names.
 *
 * @param spec as in an image's configuration; "" is root
 * @param read reads a file of the image
 * @throws {CloudletError} `invalid-input` for a name that the image does not have
 */
export function findExecUser(spec: string, read: ReadText = readImageText): ExecUser {
  const [name = "", group = ""] = spec.split(":");
  const user = name === "" ? "0" : name;
  const entry = find(records(read("/etc/passwd")), user);
  const uid = idOf(entry?.[2]) ?? idOf(user);
  if (uid === undefined) throw unknown(spec, `the image has no user ${JSON.stringify(user)}`);
  const home = entry?.[5] || "/";
  const groups = records(read("/etc/group"));
  if (group !== "") {
    const gid = idOf(find(groups, group)?.[2]) ?? idOf(group);
    if (gid === undefined) throw unknown(spec, `the image has no group ${JSON.stringify(group)}`);
    return { uid, gid, groups: [gid], home };
  }
  const gid = idOf(entry?.[3]) ?? 0;
  const ids = groups.filter(([, , , members]) =>
    entry?.[0] !== undefined && members?.split(",").includes(entry[0])
  ).flatMap(([, , id]) => idOf(id) ?? []);
  return { uid, gid, groups: [...new Set([gid, ...ids])].slice(0, MAX_GROUPS), home };
}

/**
 * The same, of this image; undefined for root where the agent is not root and so cannot choose, as in
 * some tests.
 */
export function execUserOf(spec: string): ExecUser | undefined {
  return spec === "" && Deno.uid() !== 0 ? undefined : findExecUser(spec);
}

/** The first record of a number or of a name. */
function find(all: readonly string[][], text: string): string[] | undefined {
  const id = idOf(text);
  return all.find(([name, , own]) => id === undefined ? name === text : idOf(own) === id);
}

/** Text of a file of the image; "" when it has none that can be read. */
export function readImageText(path: string): string {
  try {
    const { isFile, size } = Deno.statSync(path);
    if (isFile && size <= MAX_FILE) return Deno.readTextFileSync(path);
  } catch {
    // a name is unknown then, a number is taken as it is
  }
  return "";
}
