import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { CloudletError } from "../base/errors.ts";
import {
  compareNames,
  directoryNode,
  fileNode,
  splitPath,
  symlinkNode,
  Tree,
  type TreeNode,
} from "./tree.ts";

function untrusted(error: unknown): boolean {
  return error instanceof CloudletError && error.code === "untrusted";
}

function paths(tree: Tree): string[] {
  return [...tree.entries()].map(([path]) => path);
}

const segment = fc.constantFrom("a", "b", "usr", "bin", "lib");
const plainPath = fc.array(segment, { minLength: 1, maxLength: 5 }).map((names) => names.join("/"));
const hostilePath = fc.array(
  fc.oneof(segment, fc.constantFrom("..", ".", "", "\0", "/", "\ud800", "x".repeat(256))),
  { maxLength: 6 },
).map((names) => names.join("/"));
const anyTarget = fc.array(fc.oneof(segment, fc.constantFrom("..", ".", "")), { minLength: 1 })
  .map((names) => names.join("/"));
const anyNode: fc.Arbitrary<TreeNode> = fc.oneof(
  fc.constant(0).map(() => fileNode("x")),
  fc.constant(0).map(() => directoryNode({ mode: 0o700 })),
  anyTarget.map((target) => symlinkNode(target)),
);

Deno.test("names are ordered as their UTF-8 bytes are", () => {
  const name = fc.string({ unit: "binary", maxLength: 6 });
  const sign = (a: string, b: string) => Math.sign(compareNames(a, b));
  fc.assert(fc.property(name, name, name, (prefix, x, y) => {
    const [a, b] = [prefix + x, prefix + y];
    assert.equal(sign(a, b), Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }));
  assert.equal(sign("\uffff", "\u{10000}"), -1); // where UTF-16 says otherwise
});

Deno.test("a path is cut at slashes, and empty and dot names vanish", () => {
  assert.deepEqual(splitPath("./usr//bin/."), ["usr", "bin"]);
  assert.deepEqual(splitPath("."), []);
});

Deno.test("a path that leads outside or that no file system has is refused", () => {
  const bad = ["/etc", "..", "a/../b", "a\0b", "x".repeat(256), "ä".repeat(128), "a/\udc00"];
  for (const path of bad) assert.throws(() => splitPath(path), untrusted, path);
});

Deno.test("whatever is added, every path is plain and every add succeeds or is refused", () => {
  const action = fc.tuple(fc.oneof(plainPath, hostilePath), anyNode, fc.boolean());
  fc.assert(fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
    const tree = new Tree();
    const links = new Set<TreeNode>();
    for (const [path, node, trusted] of actions) {
      try {
        tree.add(path, node, trusted ? undefined : links);
        if (node.type === "symlink") links.add(node);
      } catch (error) {
        if (!untrusted(error)) throw error;
      }
    }
    const found = paths(tree);
    assert.equal(new Set(found).size, found.length);
    for (const path of found) assert.deepEqual(splitPath(path), path.split("/"));
    // Parents come first, and each path is below the one directory that its names lead to.
    const seen = new Set([""]);
    for (const [path, node] of tree.entries()) {
      assert.ok(seen.has(path.slice(0, Math.max(0, path.lastIndexOf("/")))), path);
      if (node.type === "directory") seen.add(path);
    }
  }));
});

Deno.test("what was added without links on the way is found again", () => {
  fc.assert(fc.property(fc.array(plainPath, { maxLength: 20 }), (added) => {
    const tree = new Tree();
    const nodes = new Map<string, TreeNode>();
    for (const path of added) {
      const node = directoryNode({ uid: nodes.size });
      tree.add(path, node);
      nodes.set(path, node);
    }
    for (const [path, { uid }] of nodes) {
      const found = tree.lookup(`/${path}`);
      assert.equal(found?.type, "directory");
      assert.equal(found.uid, uid);
    }
  }));
});

Deno.test("a member behind a link of its own archive is refused", () => {
  const tree = new Tree();
  const link = symlinkNode("/etc");
  tree.add("etc", directoryNode());
  tree.add("a", link);
  assert.throws(() => tree.add("a/passwd", fileNode("x"), new Set([link])), untrusted);
  assert.deepEqual(paths(tree), ["a", "etc"]);
});

Deno.test("a directory over a trusted link to a directory fills that directory", () => {
  const tree = new Tree();
  tree.add("usr/bin", directoryNode());
  tree.add("bin", symlinkNode("usr/bin"));
  const directory = directoryNode();
  directory.children.set("inside", fileNode("x"));
  tree.add("bin", directory);
  tree.add("bin/sh", fileNode("x"));
  assert.deepEqual(paths(tree), ["bin", "usr", "usr/bin", "usr/bin/inside", "usr/bin/sh"]);
  assert.equal(tree.root.children.get("bin")?.type, "symlink");
});

Deno.test("a directory over a directory keeps the children and takes the metadata", () => {
  const tree = new Tree();
  tree.add("a/b", fileNode("x"));
  tree.add("a", directoryNode({ mode: 0o1777, uid: 7, mtime: 9, xattrs: new Map() }));
  assert.deepEqual(paths(tree), ["a", "a/b"]);
  const { mode, uid, mtime, xattrs } = tree.lookup("a")!;
  assert.deepEqual([mode, uid, mtime, xattrs], [0o1777, 7, 9, new Map()]);
});

Deno.test("a file replaces a file, an empty directory and a link, but not a full directory", () => {
  const tree = new Tree();
  for (const before of [fileNode("old"), directoryNode(), symlinkNode("elsewhere")]) {
    tree.root.children.clear();
    tree.add("x", before);
    const after = fileNode("new");
    tree.add("x", after);
    assert.equal(tree.lookup("x"), after);
  }
  tree.add("d/child", fileNode("x"));
  assert.throws(() => tree.add("d", fileNode("x")), untrusted);
  assert.throws(() => tree.add("x/below", fileNode("x")), untrusted);
  assert.throws(() => tree.add(".", fileNode("x")), untrusted);
});

Deno.test("links that lead in a circle or above the root end", () => {
  const tree = new Tree();
  tree.add("a", symlinkNode("b"));
  tree.add("b", symlinkNode("a"));
  assert.throws(() => tree.add("a/x", fileNode("x")), untrusted);
  tree.add("up", symlinkNode("../../../usr"));
  tree.add("up/x", fileNode("x"));
  assert.equal(tree.lookup("usr/x")?.type, "file");
});

Deno.test("a link target is neither empty, nor too long, nor broken", () => {
  for (const target of ["", "x".repeat(4096), "ä".repeat(2048), "a\0b", "\ud800"]) {
    assert.throws(() => new Tree().add("x", symlinkNode(target)), untrusted);
  }
});

Deno.test("removing takes everything below along and says whether there was something", () => {
  const tree = new Tree();
  tree.add("a/b/c", fileNode("x"));
  assert.equal(tree.remove("/a/b"), true);
  assert.equal(tree.remove("a/b"), false);
  assert.equal(tree.remove("missing/b"), false);
  assert.deepEqual(paths(tree), ["a"]);
  assert.throws(() => tree.remove("/"), untrusted);
});

Deno.test("a tree may be deeper than the call stack, and may lose nodes while it is read", () => {
  const tree = new Tree();
  let deepest = tree.root;
  for (let i = 0; i < 20_000; i++) {
    const next = directoryNode();
    deepest.children.set("d", next);
    deepest = next;
  }
  let count = 0;
  for (const _ of tree.entries()) count++;
  assert.equal(count, 20_000);

  const flat = new Tree();
  for (const name of "abcd") flat.add(name, fileNode(name));
  const seen = [];
  for (const [path] of flat.entries()) {
    seen.push(path);
    flat.remove("b");
  }
  assert.deepEqual(seen, ["a", "c", "d"]);
});
