/**
 * As whom a program of an image runs: what `USER` in an image's configuration means.
 *
 * The OCI image specification 1.1, "User": `user`, `uid`, `user:group`, `uid:gid`, `uid:group`,
 * `user:gid`, looked up in the image's /etc/passwd and /etc/group.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Credentials } from "./credentials.ts";

/** A user of the image. */
export interface ExecUser extends Credentials {
  /** Home directory; undefined when /etc/passwd does not know the user. */
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
    remedy: "use an image that has the user, or a number",
  });
}

/**
 * The user that `spec` names.
 *
 * @param spec as in an image's configuration; not empty
 * @param read reads a file of the image
 * @throws {CloudletError} `invalid-input` for a name that the image does not have
 */
export function findExecUser(spec: string, read: ReadText = readText): ExecUser {
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
