import assert from "node:assert/strict";
import { fileNode, Tree } from "../tree.ts";
import { addAccounts } from "./accounts.ts";
import { readText } from "./text.ts";

function treeOf(files: Readonly<Record<string, string>>): Tree {
  const tree = new Tree();
  for (const [path, content] of Object.entries(files)) tree.add(path, fileNode(content));
  return tree;
}

const MASTER = {
  "usr/share/base-passwd/passwd.master":
    "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:n:/:/x\n",
  "usr/share/base-passwd/group.master": "root:*:0:\nshadow:*:42:\nnogroup:*:65534:\n",
};

Deno.test("accounts are those of base-passwd, with their passwords in the shadow", () => {
  const tree = treeOf({ ...MASTER, "usr/sbin/shadowconfig": "" });
  addAccounts(tree);
  assert.equal(
    readText(tree, "etc/passwd"),
    "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:n:/:/x\n",
  );
  assert.equal(readText(tree, "etc/group"), "root:x:0:\nshadow:x:42:\nnogroup:x:65534:\n");
  assert.match(readText(tree, "etc/shadow")!, /^root:\*::0:99999:7:::$/m);
  assert.match(readText(tree, "etc/gshadow")!, /^shadow:\*::$/m);
  const { mode, gid } = tree.lookup("etc/shadow")!;
  assert.deepEqual([mode, gid], [0o640, 42]);
});

Deno.test("what is there stays, and a system without base-passwd has the accounts of policy", () => {
  const tree = treeOf({ "etc/passwd": "me:x:1:1::/:/bin/sh\n" });
  addAccounts(tree);
  assert.equal(readText(tree, "etc/passwd"), "me:x:1:1::/:/bin/sh\n");
  assert.match(readText(tree, "etc/group")!, /^nogroup:x:65534:$/m);
  assert.equal(tree.lookup("etc/shadow"), undefined);
});

Deno.test("apt has a user, whose directories are its own", () => {
  const partial = "var/lib/apt/lists/partial";
  for (const known of ["", "_apt:*:42:65534::/nonexistent:/usr/sbin/nologin\n"]) {
    const tree = treeOf({ ...MASTER, "usr/lib/apt/methods/http": "" });
    const path = "usr/share/base-passwd/passwd.master";
    tree.add(path, fileNode(`${known}${MASTER[path]}`));
    tree.add(`${partial}/x`, fileNode(""));
    addAccounts(tree);
    const uid = known === "" ? 100 : 42;
    assert.deepEqual(readText(tree, "etc/passwd")!.match(/^_apt:x:(\d+):65534:/gm), [
      `_apt:x:${uid}:65534:`,
    ]);
    assert.equal(tree.lookup(partial)!.uid, uid);
  }
});

Deno.test("packages declare accounts by sysusers.d(5)", () => {
  const tree = treeOf({
    ...MASTER,
    "usr/lib/sysusers.d/a.conf": `# a remark
g readers 75
u! server 75 "The Server" /srv - -
u worker - "Works: hard" /work /bin/sh
u joined -:readers
m worker readers
u ../../evil - x
u root 0 "again"
z nothing
`,
    "usr/lib/sysusers.d/remark.txt": "u no - -\n",
  });
  addAccounts(tree);
  const passwd = readText(tree, "etc/passwd")!.trimEnd().split("\n").slice(2);
  assert.deepEqual(passwd, [
    "server:x:999:999:The Server:/srv:/usr/sbin/nologin",
    "worker:x:998:998:Works  hard:/work:/bin/sh",
    "joined:x:997:75::/:/usr/sbin/nologin",
  ]);
  const group = readText(tree, "etc/group")!.trimEnd().split("\n").slice(3);
  assert.deepEqual(group, ["readers:x:75:worker", "server:x:999:", "worker:x:998:"]);
});
