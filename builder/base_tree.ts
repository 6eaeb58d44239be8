/**
 * What every root file system starts with, before any package is unpacked: the directories of a
 * merged-/usr Debian system, and the files that maintainer scripts would otherwise make.
 *
 * @module
 */
import { addAccounts } from "./system/accounts.ts";
import { addAlternatives } from "./system/alternatives.ts";
import { addBaseFiles } from "./system/base_files.ts";
import { addCertificates } from "./system/certificates.ts";
import type { DpkgDatabase } from "./system/dpkg_database.ts";
import { addLinkerCache } from "./system/linker_cache.ts";
import { directoryNode, symlinkNode, Tree } from "./tree.ts";

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

function linkMissing(tree: Tree, path: string, targets: readonly string[]): void {
  if (tree.lookup(path) !== undefined) return;
  const target = targets.find((target) => tree.lookup(target) !== undefined);
  if (target !== undefined) tree.add(path, symlinkNode(target));
}

/**
 * Does after unpacking what the packages' maintainer scripts do on an installed system, as far as
 * programs see it: accounts, name service, alternatives, certificates, the linker's cache.
 *
 * @param database the packages that were unpacked, when the system has to know them
 */
export function finishSystemTree(tree: Tree, database?: DpkgDatabase): void {
  for (const [path, target] of [["var/run", "/run"], ["var/lock", "/run/lock"]] as const) {
    const node = tree.lookup(path); // base-files has the directory, and its postinst the link
    if (node?.type === "directory" && node.children.size === 0) tree.add(path, symlinkNode(target));
  }
  addBaseFiles(tree);
  addAccounts(tree);
  addAlternatives(tree, database?.configurationScripts() ?? []);
  // Where no script was read, or none says so:
  linkMissing(tree, "usr/bin/sh", ["/usr/bin/dash", "/usr/bin/bash", "/usr/bin/busybox"]);
  linkMissing(tree, "usr/bin/awk", ["/usr/bin/gawk", "/usr/bin/mawk"]);
  linkMissing(tree, "usr/bin/cc", ["/usr/bin/gcc"]);
  linkMissing(tree, "usr/bin/c++", ["/usr/bin/g++"]);
  linkMissing(tree, "usr/bin/pager", ["/usr/bin/less", "/usr/bin/more"]);
  linkMissing(tree, "usr/bin/node", ["/usr/bin/nodejs"]);
  addCertificates(tree);
  addLinkerCache(tree);
  database?.writeTo(tree);
}
