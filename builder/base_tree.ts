/**
 * What every root file system starts with, before any package is unpacked: the directories of a
 * merged-/usr Debian system, and the files that maintainer scripts would otherwise make.
 *
 * @module
 */
import { directoryNode, fileNode, symlinkNode, Tree } from "./tree.ts";

/** A tree with the top-level directories and the merged-/usr links (Debian policy 10.1). */
export function newSystemTree(): Tree {
  const tree = new Tree();
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    tree.add(`usr/${name}`, directoryNode());
    tree.add(name, symlinkNode(`usr/${name}`));
  }
  for (const name of ["dev", "etc", "home", "mnt", "opt", "proc", "run", "srv", "sys", "var"]) {
    tree.add(name, directoryNode());
  }
  tree.add("root", directoryNode({ mode: 0o700 }));
  tree.add("tmp", directoryNode({ mode: 0o1777 }));
  tree.add("var/tmp", directoryNode({ mode: 0o1777 }));
  tree.add("var/run", symlinkNode("/run"));
  tree.add("var/lock", symlinkNode("/run/lock"));
  return tree;
}

function addMissing(tree: Tree, path: string, content: string): void {
  if (tree.lookup(path) === undefined) tree.add(path, fileNode(content));
}

function linkMissing(tree: Tree, path: string, targets: readonly string[]): void {
  if (tree.lookup(path) !== undefined) return;
  const target = targets.find((target) => tree.lookup(target) !== undefined);
  if (target !== undefined) tree.add(path, symlinkNode(target));
}

/** The accounts that a program can expect; the numbers are Debian's (policy 9.2.2). */
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

/**
 * Does after unpacking what the packages' maintainer scripts do on an installed system, as far as
 * programs see it: accounts, name service, the alternatives that builds rely on.
 */
export function finishSystemTree(tree: Tree): void {
  addMissing(tree, "etc/passwd", PASSWD);
  addMissing(tree, "etc/group", GROUP);
  addMissing(tree, "etc/hostname", "cloudlet\n");
  addMissing(tree, "etc/hosts", "127.0.0.1 localhost cloudlet\n");
  addMissing(tree, "etc/resolv.conf", "");
  addMissing(
    tree,
    "etc/nsswitch.conf",
    "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
  );
  // update-alternatives(1) would choose these
  linkMissing(tree, "usr/bin/sh", ["/usr/bin/dash", "/usr/bin/bash", "/usr/bin/busybox"]);
  linkMissing(tree, "usr/bin/awk", ["/usr/bin/gawk", "/usr/bin/mawk"]);
  linkMissing(tree, "usr/bin/cc", ["/usr/bin/gcc"]);
  linkMissing(tree, "usr/bin/c++", ["/usr/bin/g++"]);
  linkMissing(tree, "usr/bin/pager", ["/usr/bin/less", "/usr/bin/more"]);
  linkMissing(tree, "usr/bin/node", ["/usr/bin/nodejs"]);
}
