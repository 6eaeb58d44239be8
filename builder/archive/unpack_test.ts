import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { CloudletError } from "../../base/errors.ts";
import { type Content, contentSize, symlinkNode, Tree } from "../tree.ts";
import { makeTar, paxHeader, type TarEntry, testDirectory } from "./fixtures_test.ts";
import { openSource } from "./source.ts";
import { addTar, unpackTar } from "./unpack.ts";

function add(entries: readonly TarEntry[], tree = new Tree()): Tree {
  using source = openSource({ kind: "bytes", bytes: makeTar(entries) }, "test.tar");
  addTar(source, tree);
  return tree;
}

function names(tree: Tree): string[] {
  return [...tree.entries()].map(([path, node]) => `${node.type} ${path}`);
}

function text(content: Content): string {
  using source = openSource(content);
  return new TextDecoder().decode(source.read(0, contentSize(content)));
}

Deno.test("members become nodes with all that the archive says of them", () => {
  const tree = add([
    { name: "./", flag: "5", mode: 0o755 },
    { name: "./usr/", flag: "5", mode: 0o700, uid: 1, gid: 2, mtime: 3 },
    paxHeader([["SCHILY.xattr.security.capability", new Uint8Array([1, 255])]]),
    { name: "./usr/ping", content: "ping", mode: 0o4755 },
    { name: "./usr/ping2", flag: "1", link: "./usr/ping" },
    { name: "./usr/link", flag: "2", link: "../etc" },
    { name: "./dev/null", flag: "3", major: 1, minor: 3, mode: 0o666 },
    { name: "./fifo", flag: "6" },
  ]);
  assert.deepEqual(names(tree), [
    "directory dev",
    "character dev/null",
    "fifo fifo",
    "directory usr",
    "symlink usr/link",
    "file usr/ping",
    "file usr/ping2",
  ]);
  const usr = tree.lookup("usr")!;
  assert.deepEqual([usr.mode, usr.uid, usr.gid, usr.mtime], [0o700, 1, 2, 3]);
  const ping = tree.lookup("usr/ping")!;
  assert.ok(ping.type === "file");
  assert.equal(text(ping.content), "ping");
  assert.equal(ping.mode, 0o4755);
  assert.deepEqual(ping.xattrs, new Map([["security.capability", new Uint8Array([1, 255])]]));
  assert.equal(tree.lookup("usr/ping2"), ping, "a hard link is the same node");
  const device = tree.lookup("dev/null")!;
  assert.ok(device.type === "character");
  assert.deepEqual([device.major, device.minor], [1, 3]);
});

Deno.test("a member reaches its place through links that were there before its archive", () => {
  const tree = new Tree();
  tree.add("usr/bin/keep", symlinkNode("x"));
  tree.add("bin", symlinkNode("usr/bin"));
  add([
    { name: "./bin/", flag: "5" },
    { name: "./bin/sh", content: "shell" },
    { name: "./bin/bash", flag: "1", link: "./bin/sh" },
  ], tree);
  assert.deepEqual(names(tree), [
    "symlink bin",
    "directory usr",
    "directory usr/bin",
    "file usr/bin/bash",
    "symlink usr/bin/keep",
    "file usr/bin/sh",
  ]);
});

Deno.test("a symbolic link does not replace a directory that has something in it", () => {
  const tree = add([{ name: "./doc/a/copyright", content: "x" }, { name: "./doc/b/", flag: "5" }]);
  add([
    { name: "./doc/a", flag: "2", link: "b" },
    { name: "./doc/b", flag: "2", link: "c" },
  ], tree);
  assert.deepEqual(names(tree), [
    "directory doc",
    "directory doc/a",
    "file doc/a/copyright",
    "symlink doc/b",
  ]);
});

Deno.test("hostile archives are refused with the name of archive and member", () => {
  const cases: [string, TarEntry[], RegExp][] = [
    ["parent", [{ name: "../evil", content: "x" }], /"..\/evil".*has a ".."/],
    ["parent inside", [{ name: "a/../../evil", content: "x" }], /has a ".."/],
    ["absolute", [{ name: "/etc/passwd", content: "x" }], /"\/etc\/passwd".*is absolute/],
    [
      "file through its own link",
      [{ name: "out", flag: "2", link: "/etc" }, { name: "out/passwd", content: "x" }],
      /"out" on the way is a symbolic link of the same archive/,
    ],
    [
      "directory through its own link",
      [{ name: "out", flag: "2", link: "/etc" }, { name: "out/dir", flag: "5" }],
      /symbolic link of the same archive/,
    ],
    [
      "file through a hard link to its own link",
      [
        { name: "out", flag: "2", link: "/etc" },
        { name: "alias", flag: "1", link: "out" },
        { name: "alias/passwd", content: "x" },
      ],
      /hard link to "out", which is no earlier file/,
    ],
    ["hard link outside", [{ name: "a", flag: "1", link: "../etc/shadow" }], /outside/],
    ["absolute hard link", [{ name: "a", flag: "1", link: "/etc/shadow" }], /outside/],
    ["hard link to nothing", [{ name: "a", flag: "1", link: "b" }], /no earlier file/],
    [
      "hard link to what comes later",
      [{ name: "a", flag: "1", link: "b" }, { name: "b", content: "x" }],
      /no earlier file/,
    ],
    [
      "hard link to what was replaced",
      [
        { name: "b", content: "x" },
        { name: "./b", flag: "2", link: "/etc/shadow" },
        { name: "a", flag: "1", link: "b" },
      ],
      /no earlier file/,
    ],
    [
      "hard link to a directory",
      [{ name: "b", flag: "5" }, { name: "a", flag: "1", link: "b" }],
      /no earlier file/,
    ],
    ["file behind a file", [{ name: "a", content: "" }, { name: "a/b", content: "" }], /"a\/b"/],
    [
      "file over a full directory",
      [{ name: "a/b", content: "" }, { name: "a", content: "" }],
      /not empty/,
    ],
    ["empty link", [{ name: "a", flag: "2", link: "" }], /link target/],
    ["long name", [paxHeader([["path", "x".repeat(256)]]), { name: "a" }], /longer than 255/],
    ["NUL in a name", [paxHeader([["path", "a\0b"]]), { name: "a" }], /NUL/],
    ["NUL in a link", [paxHeader([["linkpath", "a\0b"]]), { name: "a", flag: "2" }], /NUL/],
  ];
  for (const [name, entries, pattern] of cases) {
    assert.throws(
      () => add(entries),
      (error) =>
        error instanceof CloudletError && error.code === "untrusted" &&
        error.message.includes("test.tar") && pattern.test(error.message),
      name,
    );
  }
});

Deno.test("contents stay in the file of an uncompressed archive", async () => {
  using directory = testDirectory();
  const path = join(directory.path, "archive.tar");
  await Deno.writeFile(path, makeTar([{ name: "a", content: "first" }, { name: "b" }]));
  const tree = new Tree();
  await unpackTar(path, tree, { cache: join(directory.path, "cache") });
  const node = tree.lookup("a");
  assert.ok(node?.type === "file");
  assert.deepEqual(node.content, { kind: "file", path, offset: 512, size: 5 });
});

Deno.test("a compressed archive, even inside another file, is decompressed once", async () => {
  using directory = testDirectory();
  const cache = join(directory.path, "cache");
  const packed = gzipSync(makeTar([{ name: "./inner/file", content: "inner content" }]));
  const outer = join(directory.path, "outer");
  await Deno.writeFile(outer, new Uint8Array([1, 2, 3, ...packed, 4, 5]));
  const kinds: Content[] = [
    { kind: "file", path: outer, offset: 3, size: packed.length },
    { kind: "bytes", bytes: packed },
  ];
  for (const content of kinds) {
    const tree = new Tree();
    await unpackTar(content, tree, { cache, name: "inner.tar.gz" });
    const node = tree.lookup("inner/file");
    assert.ok(node?.type === "file");
    assert.equal(text(node.content), "inner content");
    assert.equal([...Deno.readDirSync(cache)].length, 1);
  }
});

Deno.test("a damaged compressed archive is refused and leaves nothing in the cache", async () => {
  using directory = testDirectory();
  const bytes = gzipSync(makeTar([{ name: "a", content: "x".repeat(9999) }])).subarray(0, -9);
  await assert.rejects(
    unpackTar({ kind: "bytes", bytes }, new Tree(), { cache: directory.path, name: "bad.tar.gz" }),
    (error) =>
      error instanceof CloudletError && error.code === "untrusted" &&
      error.message.includes("bad.tar.gz"),
  );
  assert.deepEqual([...Deno.readDirSync(directory.path)], []);
});
