import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { oracle, run } from "../../test/oracle.ts";
import { assertSameTree, randomTree } from "../../test/trees.ts";
import { withMount } from "../../test/mount.ts";
import { directoryNode, fileNode, symlinkNode, Tree } from "../tree.ts";
import { BLOCK_SIZE, crc32c, HUGE_SIZE } from "./format.ts";
import { planImage } from "./layout.ts";
import { writeErofs } from "./mod.ts";

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Has fsck.erofs look at an image. */
async function check(image: string): Promise<void> {
  const { stdout, stderr } = await run("fsck.erofs", ["-d3", image]);
  assert.match(stdout + stderr, /No errors found/);
}

/** A tree with what random ones hardly ever have. */
function demandingTree(): Tree {
  const tree = new Tree();
  for (let i = 0; i < 3000; i++) tree.add(`many/${i}-${"n".repeat(i % 200)}`, fileNode(`${i}`));
  for (let i = 0; i < 300; i++) tree.add(`many/below/${i}/x`, directoryNode({ mtime: i }));
  const linked = fileNode("one file, many names", { mtime: 77 });
  for (let i = 0; i < 70_000; i++) tree.add(`links/${i}`, linked);
  tree.add("target/4000", symlinkNode("t".repeat(4000)));
  tree.add("target/4095", symlinkNode("t".repeat(4095), { mtime: 5 }));
  tree.add("large/exact", fileNode(crypto.getRandomValues(new Uint8Array(65536))));
  tree.add("large/huge", fileNode(new Uint8Array(2 * HUGE_SIZE + 1).fill(1)));
  tree.add("large/huger", fileNode(new Uint8Array(HUGE_SIZE).fill(2)));
  tree.add(
    "attributes",
    fileNode("", {
      xattrs: new Map([
        ["user.large", new Uint8Array(20_000).fill(3)],
        ["trusted.x", new Uint8Array(65_535 - 20_000).fill(4)],
        ["security.empty", new Uint8Array(0)],
      ]),
    }),
  );
  tree.add(
    "attributes-and-link",
    symlinkNode("there", {
      xattrs: new Map([["trusted.x", new Uint8Array(4060).fill(5)]]),
    }),
  );
  return tree;
}

Deno.test("fsck.erofs accepts random trees and extracts what went in", async () => {
  if (!(await oracle("fsck.erofs"))) return;
  const root = Deno.uid() === 0;
  await fc.assert(
    fc.asyncProperty(randomTree, async (tree) => {
      await withDirectory(async (directory) => {
        const image = join(directory, "image");
        tree.root.mode |= 0o700;
        const { sha256, size } = await writeErofs(tree, image);
        await check(image);
        const bytes = await Deno.readFile(image);
        assert.equal(bytes.length, size);
        assert.equal(createHash("sha256").update(bytes).digest("hex"), sha256);
        // It makes devices only as root, never hard links, and changes owners after modes, which
        // drops set-user-id. It does not know sockets.
        for (const [path, node] of tree.entries()) if (node.type === "socket") tree.remove(path);
        const out = join(directory, "out");
        await writeErofs(tree, image);
        await run("fsck.erofs", [`--extract=${out}`, image]);
        assertSameTree(tree, out, {
          owners: root,
          setIds: false,
          devices: root,
          links: false,
          linkTimes: false,
        });
      });
    }),
    { numRuns: 25 },
  );
});

Deno.test("Linux mounts random trees and shows what went in, extended attributes too", async () => {
  await fc.assert(
    fc.asyncProperty(randomTree, async (tree) => {
      await withDirectory(async (directory) => {
        const image = join(directory, "image");
        await writeErofs(tree, image);
        await withMount(image, (mounted, xattr) => {
          assertSameTree(tree, mounted, {
            owners: true,
            setIds: true,
            devices: true,
            links: true,
            linkTimes: true,
            xattr,
          });
        });
      });
    }),
    { numRuns: 25 },
  );
});

Deno.test("large directories, many links, long targets and large attributes are right", async () => {
  const tree = demandingTree();
  await withDirectory(async (directory) => {
    const image = join(directory, "image");
    const { inodes } = await writeErofs(tree, image, { label: "demanding" });
    assert.equal(inodes, 1 + new Set([...tree.entries()].map(([, node]) => node)).size);
    if (await oracle("fsck.erofs")) await check(image);
    if (await oracle("dump.erofs")) {
      const { stdout } = await run("dump.erofs", ["-s", image]);
      assert.match(stdout, new RegExp(`inode count: +${inodes}\n`));
      assert.match(stdout, /features: +sb_csum mtime/);
    }
    await withMount(image, (mounted, xattr) => {
      const comparison = {
        owners: true,
        setIds: true,
        devices: true,
        links: true,
        linkTimes: true,
        xattr,
      };
      tree.remove("links"); // 70,000 names take long one by one: looked at below
      const names = [...Deno.readDirSync(join(mounted, "links"))].map(({ name }) => name);
      assert.equal(new Set(names).size, 70_000);
      assert.equal(Deno.lstatSync(join(mounted, "links/69999")).nlink, 70_000);
      assert.throws(() => Deno.lstatSync(join(mounted, "links/70000")), Deno.errors.NotFound);
      for (const name of [...tree.root.children.keys()]) {
        const below = new Tree();
        const node = tree.root.children.get(name)!;
        if (node.type !== "directory") below.add(name, node);
        else {
          Object.assign(below.root, node, { children: below.root.children });
          for (const [child, what] of node.children) below.root.children.set(child, what);
          assertSameTree(below, join(mounted, name), comparison);
        }
      }
      for (const name of ["attributes", "attributes-and-link"]) {
        for (const [attribute, value] of tree.lookup(name)!.xattrs!) {
          assert.deepEqual(xattr(join(mounted, name), attribute), value);
        }
      }
    });
  });
});

Deno.test("the same tree gives the same bytes, whatever the order in which it was made", async () => {
  await fc.assert(
    fc.asyncProperty(randomTree, async (tree) => {
      await withDirectory(async (directory) => {
        const shuffled = new Tree();
        Object.assign(shuffled.root, tree.root, { children: shuffled.root.children });
        for (const [name, node] of [...tree.root.children].reverse()) {
          shuffled.root.children.set(name, node);
        }
        const first = await writeErofs(tree, join(directory, "1"));
        const second = await writeErofs(shuffled, join(directory, "2"));
        assert.deepEqual(second, first);
        assert.notEqual(
          (await writeErofs(tree, join(directory, "3"), { label: "other" })).sha256,
          first.sha256,
        );
      });
    }),
    { numRuns: 20 },
  );
});

Deno.test("contents lie where DAX needs them and never on each other", () => {
  const size = fc.oneof(fc.nat(3 * BLOCK_SIZE), fc.nat(3 * HUGE_SIZE));
  fc.assert(fc.property(fc.array(size, { maxLength: 40 }), (sizes) => {
    const tree = new Tree();
    sizes.forEach((size, i) =>
      tree.add(`${i}`, {
        ...fileNode(""),
        content: { kind: "file", path: "never read", offset: 0, size },
      })
    );
    const { metadata, pieces, blocks } = planImage(tree);
    let end = metadata.length / BLOCK_SIZE;
    for (const { block, content } of pieces) {
      assert.ok(content.kind === "file");
      assert.ok(block >= end, "pieces overlap");
      if (content.size >= HUGE_SIZE) assert.equal(block * BLOCK_SIZE % HUGE_SIZE, 0);
      end = block + Math.ceil(content.size / BLOCK_SIZE);
    }
    assert.equal(blocks, end);
    assert.equal(pieces.length, sizes.filter((size) => size > 0).length);
  }));
});

Deno.test("small files fill what the alignment of large ones leaves", () => {
  const tree = new Tree();
  for (let i = 0; i < 10; i++) {
    tree.add(`large/${i}`, fileNode(new Uint8Array(HUGE_SIZE + 1)));
    for (let j = 0; j < 520; j++) tree.add(`small/${i}/${j}`, fileNode("x"));
  }
  const { pieces, blocks } = planImage(tree);
  const used = pieces.reduce((sum, { content }) => {
    assert.ok(content.kind === "bytes");
    return sum + Math.ceil(content.bytes.length / BLOCK_SIZE);
  }, 0);
  assert.ok(blocks - used < 600, `${blocks - used} blocks lie idle`);
});

Deno.test("what EROFS cannot hold is refused, and nothing is written", async () => {
  const bad: [string, (tree: Tree) => void][] = [
    ["a name over 255 bytes", (tree) => tree.root.children.set("ä".repeat(128), fileNode(""))],
    ["a name with a slash", (tree) => tree.root.children.set("a/b", fileNode(""))],
    ["the name ..", (tree) => tree.root.children.set("..", directoryNode())],
    ["half a surrogate pair", (tree) => tree.root.children.set("\ud800", fileNode(""))],
    ["a mode with type bits", (tree) => tree.add("x", fileNode("", { mode: 0o100644 }))],
    ["a negative owner", (tree) => tree.add("x", fileNode("", { uid: -1 }))],
    ["a time that is none", (tree) => tree.add("x", fileNode("", { mtime: NaN }))],
    [
      "a device number out of range",
      (tree) => tree.add("x", { ...fileNode(""), type: "block", major: 4096, minor: 0 }),
    ],
    [
      "an attribute without name space",
      (tree) => tree.add("x", fileNode("", { xattrs: new Map([["other.x", new Uint8Array(1)]]) })),
    ],
    [
      "an attribute over 64 KiB",
      (tree) =>
        tree.add("x", fileNode("", { xattrs: new Map([["user.x", new Uint8Array(65_536)]]) })),
    ],
    ["a directory inside itself", (tree) => tree.root.children.set("x", tree.root)],
    ["contents over 16 TiB", (tree) =>
      tree.add("x", {
        ...fileNode(""),
        content: { kind: "file", path: "/dev/null", offset: 0, size: 2 ** 44 },
      })],
  ];
  await withDirectory(async (directory) => {
    for (const [what, spoil] of bad) {
      const tree = new Tree();
      spoil(tree);
      await assert.rejects(
        writeErofs(tree, join(directory, "image")),
        (error) => error instanceof CloudletError && error.code === "invalid-input",
        what,
      );
    }
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  });
});

Deno.test("progress adds up to the size of the image", async () => {
  await withDirectory(async (directory) => {
    const tree = new Tree();
    tree.add("a", fileNode(new Uint8Array(9_000_000).fill(1)));
    tree.add("b", fileNode(new Uint8Array(9_000_000).fill(1)));
    let sum = 0;
    const { size } = await writeErofs(tree, join(directory, "image"), {
      onProgress: (bytes) => sum += bytes,
    });
    assert.equal(sum, size);
  });
});

Deno.test("the checksum is CRC-32C", () => {
  // RFC 3720 B.4 has 32 bytes of zero as an example; the kernel leaves the final inversion out.
  assert.equal((~crc32c(new Uint8Array(32))) >>> 0, 0x8a9136aa);
});
