/**
 * Random file trees, and their comparison with a directory of the host, for tests of any folder.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { contentBytes } from "../builder/content.ts";
import {
  directoryNode,
  type FileNode,
  type Metadata,
  symlinkNode,
  Tree,
  type TreeNode,
} from "../builder/tree.ts";

const utf8 = new TextEncoder();

/** Names that a file can have, with an eye to sorting, to length and to UTF-8. */
const name = fc.oneof(
  { weight: 4, arbitrary: fc.stringMatching(/^[a-c.!\-]{1,3}$/) },
  { weight: 2, arbitrary: fc.string({ minLength: 1, maxLength: 12, unit: "grapheme" }) },
  { weight: 1, arbitrary: fc.stringMatching(/^[x-z]{200,255}$/) },
).filter((name) =>
  !/^\.{0,2}$/.test(name) && !/[/\0]/.test(name) && name.isWellFormed() &&
  utf8.encode(name).length <= 255
);

const xattrName = fc.tuple(
  fc.constantFrom("user.", "trusted.", "security.x"),
  fc.stringMatching(/^[a-z.]{1,40}$/),
).map(([prefix, rest]) => prefix + rest);

const metadata: fc.Arbitrary<Metadata> = fc.record({
  mode: fc.oneof(fc.constantFrom(0o755, 0o644, 0o4755, 0o1777), fc.nat(0o7777)),
  uid: fc.oneof(fc.constantFrom(0, 65535, 65536, 0xffff_fffe), fc.nat(2000)),
  gid: fc.oneof(fc.constantFrom(0, 65535, 65536, 0xffff_fffe), fc.nat(2000)),
  mtime: fc.oneof(fc.constantFrom(0, 1_700_000_000, 4_294_967_296), fc.nat()),
  xattrs: fc.oneof(
    { weight: 3, arbitrary: fc.constant(new Map<string, Uint8Array>()) },
    {
      weight: 1,
      arbitrary: fc.dictionary(xattrName, fc.uint8Array({ maxLength: 300 }), { maxKeys: 4 })
        .map((record) => new Map(Object.entries(record))),
    },
  ),
});

const content = fc.oneof(
  fc.uint8Array({ maxLength: 100 }),
  // Around the block size, where a tail becomes a block.
  fc.tuple(fc.integer({ min: 4090, max: 4100 }), fc.nat(255)).map(([size, byte]) =>
    new Uint8Array(size).fill(byte)
  ),
);

const target = fc.oneof(
  fc.stringMatching(/^[a-z./]{1,30}$/),
  fc.integer({ min: 1, max: 4095 }).map((length) => "t".repeat(length)),
);

const leaf: fc.Arbitrary<TreeNode> = metadata.chain((common) =>
  fc.oneof<fc.Arbitrary<TreeNode>[]>(
    content.map((bytes): TreeNode => ({
      type: "file",
      ...common,
      content: { kind: "bytes", bytes },
    })),
    target.map((target): TreeNode => symlinkNode(target, { ...common, mode: 0o777 })),
    fc.record({
      type: fc.constantFrom("character" as const, "block" as const),
      major: fc.nat(4095),
      minor: fc.nat(0xfffff),
    }).map((device): TreeNode => ({ ...common, ...device })),
    fc.constantFrom("fifo" as const, "socket" as const)
      .map((type): TreeNode => ({ ...common, type })),
  )
);

/** Any node without set-user-id surprises: what {@linkcode randomTree} hangs into a tree. */
const node: fc.Arbitrary<TreeNode> = fc.letrec<{ node: TreeNode }>((tie) => ({
  node: fc.oneof(
    { maxDepth: 4, depthIdentifier: "tree" },
    leaf,
    fc.tuple(
      metadata,
      fc.array(fc.tuple(name, tie("node")), { maxLength: 6, depthIdentifier: "tree" }),
    ).map(([common, children]): TreeNode => {
      const directory = directoryNode(common);
      for (const [name, child] of children) directory.children.set(name, child);
      return directory;
    }),
  ),
})).node;

/** Trees of every kind of node, with hard links. */
export const randomTree: fc.Arbitrary<Tree> = fc.tuple(
  metadata,
  fc.array(fc.tuple(name, node), { maxLength: 12 }),
  fc.array(fc.tuple(name, fc.nat()), { maxLength: 3 }),
).map(([common, children, links]) => {
  const tree = new Tree();
  Object.assign(tree.root, common);
  for (const [name, child] of children) tree.root.children.set(name, child);
  const files = [...tree.entries()].map(([, node]) => node).filter((node) => node.type === "file");
  for (const [name, which] of links) {
    const file = files[which % files.length];
    if (file !== undefined && !tree.root.children.has(name)) tree.root.children.set(name, file);
  }
  return tree;
});

/** What a comparison looks at. */
export interface Comparison {
  /** Owners. */
  readonly owners: boolean;
  /** Set-user-id and set-group-id. */
  readonly setIds: boolean;
  /** Devices, pipes and sockets; without it they must be missing. */
  readonly devices: boolean;
  /** That names of one file are one inode. */
  readonly links: boolean;
  /** Modification times of symbolic links. */
  readonly linkTimes: boolean;
  /** Reads an extended attribute of the host's file system; undefined when there is none. */
  readonly xattr?: (path: string, name: string) => Uint8Array | undefined;
}

/** Fails unless `directory` holds exactly what `tree` says. */
export function assertSameTree(tree: Tree, directory: string, comparison: Comparison): void {
  const expected = new Map<string, TreeNode>([["", tree.root]]);
  const paths = new Map<TreeNode, string[]>();
  for (const [path, node] of tree.entries()) {
    if (!comparison.devices && isSpecial(node)) continue;
    expected.set(path, node);
    paths.set(node, [...paths.get(node) ?? [], path]);
  }
  const names = new Set(namesBelow(directory));
  // Not deepEqual on all: the difference of two long lists takes more memory than there is.
  assert.deepEqual([...expected.keys()].filter((path) => !names.has(path)).slice(0, 9), []);
  assert.deepEqual([...names].filter((path) => !expected.has(path)).slice(0, 9), []);
  for (const [path, node] of expected) {
    const host = join(directory, path);
    const info = Deno.lstatSync(host);
    const what = JSON.stringify(path);
    assert.equal(typeOf(info), node.type, `type of ${what}`);
    const mask = comparison.setIds ? 0o7777 : 0o1777;
    if (node.type !== "symlink") {
      assert.equal(info.mode! & mask, node.mode & mask, `mode of ${what}`);
    }
    if (comparison.owners) {
      assert.deepEqual([info.uid, info.gid], [node.uid, node.gid], `owner of ${what}`);
    }
    if (node.type !== "symlink" || comparison.linkTimes) {
      assert.equal(info.mtime!.getTime() / 1000, node.mtime, `time of ${what}`);
    }
    if (node.type === "symlink") assert.equal(Deno.readLinkSync(host), node.target);
    if (node.type === "file") assertContent(node, host, info);
    if (node.type === "character" || node.type === "block") {
      const rdev = BigInt(info.rdev!); // gnu_dev_makedev of glibc: major above bit 8, minor around
      const major = Number(rdev >> 8n & 0xfffn);
      const minor = Number(rdev & 0xffn | rdev >> 12n & 0xfff00n);
      assert.deepEqual([major, minor], [node.major, node.minor], `device ${what}`);
    }
    if (comparison.links && node.type !== "directory") {
      const names = paths.get(node)!;
      assert.equal(info.nlink, names.length, `links of ${what}`);
      assert.equal(info.ino, Deno.lstatSync(join(directory, names[0]!)).ino, `inode of ${what}`);
    }
    if (comparison.links && node.type === "directory") {
      const subdirectories = [...node.children.values()].filter(({ type }) => type === "directory");
      assert.equal(info.nlink, 2 + subdirectories.length, `links of ${what}`);
    }
    for (const [name, value] of comparison.xattr === undefined ? [] : node.xattrs ?? []) {
      // Linux shows these only of files and directories: fs/xattr.c xattr_permission().
      if (name.startsWith("user.") && node.type !== "file" && node.type !== "directory") continue;
      assert.deepEqual(comparison.xattr!(host, name), value, `${name} of ${what}`);
    }
  }
}

function assertContent(node: FileNode, host: string, info: Deno.FileInfo): void {
  const bytes = contentBytes(node.content);
  assert.equal(info.size, bytes.length);
  if ((node.mode & 0o400) !== 0 || Deno.uid() === 0) {
    assert.ok(Deno.readFileSync(host).every((byte, at) => byte === bytes[at]), host);
  }
}

function isSpecial({ type }: TreeNode): boolean {
  return type === "character" || type === "block" || type === "fifo" || type === "socket";
}

function typeOf(info: Deno.FileInfo): TreeNode["type"] | "unknown" {
  if (info.isFile) return "file";
  if (info.isDirectory) return "directory";
  if (info.isSymlink) return "symlink";
  if (info.isCharDevice) return "character";
  if (info.isBlockDevice) return "block";
  if (info.isFifo) return "fifo";
  return info.isSocket ? "socket" : "unknown";
}

function* namesBelow(directory: string, prefix = ""): Generator<string> {
  yield prefix;
  for (const { name, isDirectory } of Deno.readDirSync(join(directory, prefix))) {
    const path = prefix === "" ? name : `${prefix}/${name}`;
    if (isDirectory) yield* namesBelow(directory, path);
    else yield path;
  }
}
