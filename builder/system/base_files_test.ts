import assert from "node:assert/strict";
import { finishSystemTree, newSystemTree } from "../base_tree.ts";
import { directoryNode, fileNode, type Tree } from "../tree.ts";
import { readText } from "./text.ts";

/** A tree with what packages bring. */
function system(files: Readonly<Record<string, string>>): Tree {
  const tree = newSystemTree();
  for (const [path, content] of Object.entries(files)) tree.add(path, fileNode(content));
  return tree;
}

function link(tree: Tree, path: string): string | undefined {
  const node = tree.lookup(path);
  return node?.type === "symlink" ? node.target : undefined;
}

Deno.test("base-files' defaults become files, shells are known by both names, PAM has accounts", () => {
  const tree = system({
    "usr/share/base-files/dot.bashrc": "# bashrc\n",
    "usr/share/base-files/profile": "# profile\n",
    "usr/share/libc-bin/nsswitch.conf": "hosts: files\n",
    "usr/share/debianutils/shells": "# shells\n/bin/sh\n",
    "usr/share/debianutils/shells.d/bash": "/bin/bash\n/usr/bin/bash\n",
    "usr/share/pam/common-auth":
      "# top\n$auth_primary\nauth requisite pam_deny.so\n$auth_additional\n",
    "usr/share/zoneinfo/Etc/UTC": "TZif",
    "etc/dpkg/origins/debian": "",
    "usr/bin/python3.13": "",
  });
  tree.add("var/lock", directoryNode({ mode: 0o1777 })); // as base-files has it
  finishSystemTree(tree);
  assert.equal(readText(tree, "root/.bashrc"), "# bashrc\n");
  assert.equal(readText(tree, "etc/profile"), "# profile\n");
  assert.equal(readText(tree, "etc/nsswitch.conf"), "hosts: files\n");
  assert.equal(
    readText(tree, "etc/shells"),
    "# shells\n/bin/sh\n/usr/bin/sh\n/bin/bash\n/usr/bin/bash\n",
  );
  assert.equal(
    readText(tree, "etc/pam.d/common-auth"),
    "# top\nauth\t[success=1 default=ignore]\tpam_unix.so nullok\nauth requisite pam_deny.so\n",
  );
  assert.match(readText(tree, "etc/hosts")!, /^127\.0\.0\.1\s+localhost$/m);
  assert.match(readText(tree, "etc/hosts")!, /^::1\s+localhost /m);
  assert.equal(link(tree, "etc/localtime"), "/usr/share/zoneinfo/Etc/UTC");
  assert.equal(link(tree, "var/lock"), "/run/lock");
  assert.equal(link(tree, "usr/local/man"), "share/man");
  assert.equal(tree.lookup("usr/local/lib/python3.13/dist-packages")?.type, "directory");
});

Deno.test("a system of one program gets no more than names", () => {
  const tree = system({ "usr/bin/busybox": "" });
  finishSystemTree(tree);
  assert.equal(link(tree, "usr/bin/sh"), "/usr/bin/busybox");
  assert.match(readText(tree, "etc/passwd")!, /^root:x:0:0:/);
  for (const path of ["usr/local", "etc/pam.d", "etc/ld.so.cache", "var/lib/dpkg"]) {
    assert.equal(tree.lookup(path), undefined, path);
  }
});
