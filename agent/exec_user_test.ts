import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../builder/archive/fixtures_test.ts";
import { findExecUser, readImageText } from "./exec_user.ts";
import { Child } from "./child.ts";

const FILES: Readonly<Record<string, string>> = {
  "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n# remark\nweb:x:33:34::/srv/web:/bin/false\n" +
    "7:x:70:70::/seven:\nbare:x:50:50:::\nbroken\n",
  "/etc/group":
    "root:x:0:\ntape:x:6:root\nfloppy:x:11:web2,root\n7:x:70:\nweb:x:34:\nlog:x:4:sys,web\nmail:x:8:web\n",
};
const read = (path: string) => FILES[path] ?? "";
const refused = { code: "invalid-input" };

Deno.test("a user's name brings its group, its supplementary groups and its home", () => {
  assert.deepEqual(findExecUser("web", read), {
    uid: 33,
    gid: 34,
    groups: [34, 4, 8],
    home: "/srv/web",
  });
  assert.deepEqual(findExecUser("33", read), findExecUser("web", read));
  assert.deepEqual(findExecUser("web:", read), findExecUser("web", read)); // an empty group is none
});

Deno.test("no user is root, with root's own groups", () => {
  const root = { uid: 0, gid: 0, groups: [0, 6, 11], home: "/root" };
  for (const spec of ["", ":", "0", "0:", "root"]) assert.deepEqual(findExecUser(spec, read), root);
  assert.deepEqual(findExecUser(":8", read), { uid: 0, gid: 8, groups: [8], home: "/root" });
  assert.deepEqual(findExecUser("", () => ""), { uid: 0, gid: 0, groups: [0], home: "/" });
});

Deno.test("a group that is given takes the place of all others", () => {
  assert.deepEqual(findExecUser("web:log", read), {
    uid: 33,
    gid: 4,
    groups: [4],
    home: "/srv/web",
  });
  assert.deepEqual(findExecUser("33:99", read), {
    uid: 33,
    gid: 99,
    groups: [99],
    home: "/srv/web",
  });
});

Deno.test("a number needs no entry, and is always the number", () => {
  assert.deepEqual(findExecUser("1234", read), { uid: 1234, gid: 0, groups: [0], home: "/" });
  assert.deepEqual(findExecUser("1234:", read), findExecUser("1234", read));
  assert.deepEqual(findExecUser("1234:7", read), { uid: 1234, gid: 7, groups: [7], home: "/" });
  assert.equal(findExecUser("7", read).uid, 7); // there is a user and a group of that name
  assert.equal(findExecUser("1234", () => "").uid, 1234);
});

Deno.test("a user without a home directory in the image is at the root", () => {
  assert.equal(findExecUser("bare", read).home, "/");
});

Deno.test("what the image does not have is refused", () => {
  for (const spec of ["nobody", "web:staff", "4294967295", "-1", "root:-1"]) {
    assert.throws(() => findExecUser(spec, read), refused, spec);
  }
});

Deno.test("files that are none, or too large to be what they should be, are passed over", async () => {
  using directory = testDirectory();
  const at = (name: string) => join(directory.path, name);
  await new Deno.Command("mkfifo", { args: [at("pipe")] }).output();
  await Deno.writeTextFile(at("text"), "root");
  (await Deno.create(at("large"))).close();
  await Deno.truncate(at("large"), 100 * 2 ** 20);
  for (const name of ["pipe", "large", "none", "."]) assert.equal(readImageText(at(name)), "");
  assert.equal(readImageText(at("text")), "root");
});

Deno.test({
  name: "a program of another user has nothing of root's, and its parent has all of it",
  ignore: Deno.uid() !== 0,
  async fn() {
    const before = await Deno.readTextFile("/proc/thread-self/status");
    using child = Child.spawn({
      command: ["sh", "-c", "cat /proc/self/status; echo written >/dev/stderr"],
      environment: { PATH: "/usr/bin:/bin" },
      directory: "/",
      stdin: false,
      user: { uid: 1234, gid: 5678, groups: [4, 8] },
    });
    let stdout = "";
    let stderr = "";
    for (let event = await child.next(); event.kind !== "ended"; event = await child.next()) {
      if (event.kind === "stdout") stdout += new TextDecoder().decode(event.bytes);
      if (event.kind === "stderr") stderr += new TextDecoder().decode(event.bytes);
    }
    assert.match(stdout, /^Uid:\t1234\t1234\t1234\t1234$/m);
    assert.match(stdout, /^Gid:\t5678\t5678\t5678\t5678$/m);
    assert.match(stdout, /^Groups:\t4 8 $/m);
    assert.match(stdout, /^CapPrm:\t0{16}$/m);
    assert.match(stdout, /^CapEff:\t0{16}$/m);
    assert.equal(stderr, "written\n");
    const after = await Deno.readTextFile("/proc/thread-self/status");
    for (const field of ["Uid", "Gid", "CapEff", "CapPrm"]) {
      const line = new RegExp(`^${field}:.*$`, "m");
      assert.equal(line.exec(after)?.[0], line.exec(before)?.[0]);
    }
  },
});
