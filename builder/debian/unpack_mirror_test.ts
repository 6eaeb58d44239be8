/** Real packages from the host's mirror, against dpkg-deb. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { lstatSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { command, hasCommand, testDirectory } from "../archive/fixtures_test.ts";
import { openSource } from "../archive/source.ts";
import { unpackTar } from "../archive/unpack.ts";
import { contentSize, type FileNode, Tree, type TreeNode } from "../tree.ts";
import { openDebian } from "./debian.ts";
import { bundledKeyring } from "./keyring.ts";
import { verifyInRelease } from "./release.ts";
import { findSources } from "./sources.ts";

/** Each for something: links, hard links, set-id modes, long names, other owners, empty directories. */
const PACKAGES = [
  "base-files",
  "bash",
  "busybox-static",
  "ca-certificates",
  "coreutils",
  "cron",
  "dash",
  "git",
  "libc6",
  "login",
  "ncurses-base",
  "passwd",
  "perl-base",
  "tzdata",
  "util-linux",
];

const isRoot = Deno.uid() === 0;

function digestOf(node: FileNode): string {
  using source = openSource(node.content);
  const hash = createHash("sha256");
  for (let at = 0; at < source.size; at += 65536) {
    hash.update(source.read(at, Math.min(65536, source.size - at)));
  }
  return hash.digest("hex");
}

/** One line for each node, so that a difference shows where it is. */
function describe(path: string, node: TreeNode, first: string): string {
  const what = node.type === "file"
    ? `${contentSize(node.content)} ${digestOf(node)} ${first}`
    : node.type === "symlink"
    ? node.target
    : "";
  const owner = isRoot ? `${node.uid}:${node.gid}` : "";
  const mode = node.type === "symlink" ? "" : node.mode.toString(8);
  // The tar that dpkg-deb runs makes some symbolic links last, which touches their directories.
  const mtime = node.type === "directory" ? "" : node.mtime;
  return `${path} ${node.type} ${mode} ${owner} ${mtime} ${what}`;
}

function treeLines(tree: Tree): string[] {
  const firsts = new Map<TreeNode, string>();
  return [...tree.entries()].map(([path, node]) => {
    if (!firsts.has(node)) firsts.set(node, path);
    return describe(path, node, firsts.get(node)!);
  });
}

/** The same lines of a directory of the host, read by means that have nothing to do with ours. */
function hostLines(root: string): string[] {
  const firsts = new Map<number, string>();
  const lines: [path: string, line: string][] = [];
  const visit = (path: string) => {
    const full = join(root, path);
    const info = lstatSync(full);
    const common = { mode: info.mode & 0o7777, uid: info.uid, gid: info.gid };
    const metadata = { ...common, mtime: Math.floor(info.mtimeMs / 1000) };
    let node: TreeNode;
    if (info.isDirectory()) {
      node = { type: "directory", ...metadata, children: new Map() };
    } else if (info.isSymbolicLink()) {
      node = { type: "symlink", ...metadata, target: readlinkSync(full) };
    } else {
      assert.ok(info.isFile(), path);
      const content = { kind: "file", path: full, offset: 0, size: info.size } as const;
      node = { type: "file", ...metadata, content };
    }
    if (!firsts.has(info.ino)) firsts.set(info.ino, path);
    if (path !== "") lines.push([path, describe(path, node, firsts.get(info.ino)!)]);
    if (!info.isDirectory()) return;
    const names = [...Deno.readDirSync(full)].map((entry) => entry.name);
    for (const name of names.sort(byBytes)) visit(path === "" ? name : `${path}/${name}`);
  };
  visit("");
  return lines.map(([, line]) => line);
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

Deno.test({
  name: "real packages unpack to what dpkg-deb -x makes of them",
  ignore: !hasCommand("dpkg-deb"),
  fn: async (t) => {
    using directory = testDirectory();
    const debian = await openDebian({ cache: join(directory.path, "cache") });
    const wanted = new Set(PACKAGES);
    const packages = debian.resolve(PACKAGES).filter(({ name }) => wanted.has(name));
    assert.equal(packages.length, PACKAGES.length);
    const debs = await debian.fetch(packages);
    for (const item of packages) {
      await t.step(item.name, async () => {
        const tree = new Tree();
        await debian.unpack([item], tree);
        const root = join(directory.path, item.name);
        await command("dpkg-deb", "-x", debs.get(item.name)!, root);
        const ours = treeLines(tree);
        assert.ok(ours.length > 3);
        assert.deepEqual(ours, hostLines(root));
        assert.equal(tree.root.mode, lstatSync(root).mode & 0o7777);
      });
    }
  },
});

Deno.test({
  name: "a tar.xz of bsdtar unpacks to what went into it",
  ignore: !hasCommand("bsdtar"),
  fn: async () => {
    using directory = testDirectory();
    const debian = await openDebian({ cache: join(directory.path, "cache") });
    const [item] = debian.resolve(["linux-config-6.1"]).filter(({ name }) =>
      name === "linux-config-6.1"
    );
    const tree = new Tree();
    await debian.unpack([item!], tree);
    const [path, node] = [...tree.entries()].find(([path]) => path.endsWith(".xz"))!;
    assert.ok(node.type === "file");
    // These are single files: pack one as linux-source packs its tree.
    const xz = join(directory.path, "config.xz");
    using source = openSource(node.content, path);
    await Deno.writeFile(xz, source.read(0, source.size).slice());
    const archive = join(directory.path, "inner.tar.xz");
    await command("bsdtar", "-cJf", archive, "-C", directory.path, "config.xz");
    const inner = new Tree();
    await unpackTar(archive, inner, { cache: join(directory.path, "inner") });
    const unpacked = inner.lookup("config.xz");
    assert.ok(unpacked?.type === "file");
    assert.equal(digestOf(unpacked), digestOf(node));
  },
});

Deno.test("the bundled keys verify what the mirror signs", async () => {
  const [source] = findSources({ mirror: Deno.env.get("CLOUDLET_DEBIAN_MIRROR") });
  const url = `${source!.uri}dists/${source!.suite}/InRelease`;
  const text = await (await fetch(url)).text();
  assert.match(await verifyInRelease(text, url, bundledKeyring()), /^Origin: Debian$/m);
});
