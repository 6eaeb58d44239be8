/**
 * Users and groups, as base-passwd, shadowconfig(8) and systemd-sysusers(8) make them.
 *
 * @module
 */
import type { Tree } from "../tree.ts";
import { addMissing, namesIn, readText } from "./text.ts";

/** Of a system without base-passwd; the numbers are Debian's (policy 9.2.2). */
const PASSWD = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`;
const GROUP = `root:x:0:
daemon:x:1:
bin:x:2:
tty:x:5:
users:x:100:
nogroup:x:65534:
`;

const SHADOW_GROUP = 42; // policy 9.2.2: base-passwd's number for it
const MASTER = "usr/share/base-passwd";
const SYSUSERS = "usr/lib/sysusers.d";
const FIRST_DYNAMIC = 999; // policy 9.2.2: system accounts are 100 to 999; systemd counts down
const NO_ONE = "65534";
const NAME = /^[a-z_][a-z0-9_-]{0,31}$/;

interface Accounts {
  readonly users: string[][];
  readonly groups: string[][];
}

function lines(text: string | undefined): string[][] {
  return (text ?? "").split("\n").filter((line) => line !== "").map((line) => line.split(":"));
}

function join(rows: readonly (readonly string[])[]): string {
  return rows.map((row) => `${row.join(":")}\n`).join("");
}

/** Adds `etc/passwd`, `etc/group` and their shadows where they are missing. */
export function addAccounts(tree: Tree): void {
  const shadowed = (text: string) => text.replace(/^([^:]*):\*:/gm, "$1:x:");
  const accounts: Accounts = {
    users: lines(shadowed(readText(tree, `${MASTER}/passwd.master`) ?? PASSWD)),
    groups: lines(shadowed(readText(tree, `${MASTER}/group.master`) ?? GROUP)),
  };
  for (const name of namesIn(tree, SYSUSERS)) {
    if (name.endsWith(".conf")) addDeclared(accounts, readText(tree, `${SYSUSERS}/${name}`) ?? "");
  }
  addAptUser(tree, accounts.users);
  addMissing(tree, "etc/passwd", join(accounts.users));
  addMissing(tree, "etc/group", join(accounts.groups));
  if (tree.lookup("usr/sbin/shadowconfig") === undefined) return;
  const secret = { mode: 0o640, gid: SHADOW_GROUP };
  // shadow(5): no password, and no day on which one was changed.
  const shadow = accounts.users.map(([name]) => [name!, "*", "", "0", "99999", "7", "", "", ""]);
  addMissing(tree, "etc/shadow", join(shadow), secret);
  addMissing(tree, "etc/gshadow", join(accounts.groups.map(([name]) => [name!, "*", "", ""])), {
    ...secret,
  });
  for (const name of ["subuid", "subgid"]) addMissing(tree, `etc/${name}`, "");
}

/** apt.postinst: what fetches packages runs as a user of its own (in trixie base-passwd has it). */
function addAptUser(tree: Tree, users: string[][]): void {
  if (tree.lookup("usr/lib/apt/methods") === undefined) return;
  let user = users.find(([name]) => name === "_apt");
  if (user === undefined) {
    user = ["_apt", "x", "100", NO_ONE, "", "/nonexistent", "/usr/sbin/nologin"];
    users.push(user);
  }
  for (const path of ["var/cache/apt/archives/partial", "var/lib/apt/lists/partial"]) {
    const node = tree.lookup(path);
    if (node?.type === "directory") Object.assign(node, { mode: 0o700, uid: Number(user[2]) });
  }
}

/** Adds what a file of sysusers.d(5) declares: lines of type `u` and `g`, and `m` for members. */
function addDeclared({ users, groups }: Accounts, text: string): void {
  // As uid_is_ok() of systemd has it: a number is one account's, or of a user and its own group.
  const free = (id: string, name: string) =>
    /^\d{1,9}$/.test(id) && !users.some((row) => row[2] === id) &&
    !groups.some((row) => row[2] === id && row[0] !== name);
  const number = (name: string, ...wanted: string[]) => {
    const found = wanted.find((id) => free(id, name));
    if (found !== undefined) return found;
    for (let id = FIRST_DYNAMIC; id >= 100; id--) if (free(String(id), name)) return String(id);
    return undefined;
  };
  const addGroup = (name: string, wanted: string) => {
    const existing = groups.find((row) => row[0] === name);
    if (existing !== undefined) return existing[2];
    const id = number(name, wanted);
    if (id !== undefined) groups.push([name, "x", id, ""]);
    return id;
  };
  for (const line of text.split("\n")) {
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => {
      return quoted ?? plain!;
    });
    const [type, name, id, gecos, home, shell] = words;
    if (name === undefined || !NAME.test(name)) continue;
    const given = (word: string | undefined) => word === undefined || word === "-" ? "" : word;
    const [uid = "", group = ""] = given(id).split(":");
    if (type === "g") addGroup(name, uid);
    else if (type?.replace("!", "") === "u" && !users.some((row) => row[0] === name)) {
      const gid = group === ""
        ? addGroup(name, uid)
        : groups.find((row) => row[0] === group || row[2] === group)?.[2];
      if (gid === undefined) continue;
      const own = number(name, uid, gid);
      if (own === undefined) continue;
      users.push([
        ...[name, "x", own, gid, given(gecos).replaceAll(":", " ")],
        ...[given(home) || "/", given(shell) || "/usr/sbin/nologin"],
      ]);
    } else if (type === "m" && id !== undefined) {
      const members = groups.find((row) => row[0] === id);
      if (members === undefined) continue;
      members[3] = [...(members[3] ?? "").split(",").filter(Boolean), name].join(",");
    }
  }
}
