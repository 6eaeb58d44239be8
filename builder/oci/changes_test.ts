/** What commands changed, packed in the guest by agent/overlay_diff.ts, against what overlayfs shows. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { packOverlayDiff } from "../../agent/overlay_diff.ts";
import { assertSameTree } from "../../test/trees.ts";
import { run } from "../../test/oracle.ts";
import { openSource } from "../archive/source.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { extractTree } from "../extract.ts";
import { directoryNode, fileNode, symlinkNode, Tree } from "../tree.ts";
import { ImageBudget } from "../limits.ts";
import { applyLayer } from "./layer.ts";
import { readXattr } from "./fixtures_test.ts";

const LONG = `deep/${"n".repeat(120)}/${"o".repeat(120)}`;

function lower(): Tree {
  const tree = new Tree();
  for (const path of ["etc", "usr/lib", "var/old/deep", "opt"]) tree.add(path, directoryNode());
  for (
    const path of ["etc/kept", "etc/gone", "usr/lib/a", "var/old/deep/x", "var/old/y", "opt/z"]
  ) {
    tree.add(path, fileNode(path));
  }
  tree.add("lib", symlinkNode("usr/lib"));
  tree.add("etc/dir-to-file", directoryNode());
  tree.add("etc/dir-to-file/x", fileNode("x"));
  tree.add("etc/file-to-dir", fileNode("y"));
  return tree;
}

const CHANGES = `set -e
rm etc/gone; rm -r var/old; mkdir var/old; echo new >var/old/new
rm -r etc/dir-to-file; echo file >etc/dir-to-file
rm etc/file-to-dir; mkdir etc/file-to-dir; echo in >etc/file-to-dir/in
ln etc/kept opt/link; echo appended >>opt/z; chmod 4755 opt/z; chown 1234:70000 opt/z
ln -s /no/where opt/dangling; mkfifo opt/fifo; mknod opt/null c 1 3; mknod opt/disk b 259 70000
mkdir -p ${LONG}; echo long >${LONG}/ünïcode; ln -s ${"t".repeat(200)} deep/long
rm -r usr/lib; rm lib; mkdir lib; echo real >lib/real
head -c 700000 /dev/zero >opt/zeros; : >opt/empty; chown 3000000:5 opt/empty
python3 -c "import os
os.setxattr('opt/zeros', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
os.setxattr('etc', 'trusted.mark', b'a\\\\x00\\\\xff\\\\n=')"
find . -exec touch -h -d @1700000000 {} +
`;

Deno.test({
  name: "what commands changed gives the tree that they left, once it is a layer",
  ignore: Deno.uid() !== 0,
  async fn() {
    using directory = testDirectory();
    const at = (name: string) => join(directory.path, name);
    for (const name of ["disk", "lower", "root"]) Deno.mkdirSync(at(name));
    await extractTree(lower(), at("lower"));
    await run("mount", ["-t", "tmpfs", "tmpfs", at("disk")]);
    try {
      Deno.mkdirSync(at("disk/upper"));
      Deno.mkdirSync(at("disk/work"));
      const options = `lowerdir=${at("lower")},upperdir=${at("disk/upper")},workdir=${
        at("disk/work")
      },redirect_dir=off,metacopy=off`;
      await run("mount", ["-t", "overlay", "-o", options, "overlay", at("root")]);
      try {
        await run("sh", ["-c", CHANGES], { cwd: at("root") });
        const pieces = [...packOverlayDiff(at("disk/upper"))];
        assert.ok(pieces.every(({ length }) => length <= 256 * 1024));
        const layer = new Uint8Array(await new Blob(pieces).arrayBuffer());
        const tree = lower();
        using source = openSource({ kind: "bytes", bytes: layer }, "the layer");
        using budget = new ImageBudget("the image");
        applyLayer(source, tree, budget);
        assertSameTree(tree, at("root"), {
          owners: true,
          setIds: true,
          devices: true,
          links: false, // overlayfs counts the links of directories in its own way
          linkTimes: true,
          xattr: readXattr,
        });
        const [kept, link] = [tree.lookup("etc/kept"), tree.lookup("opt/link")];
        assert.equal(kept, link);
        const names = (path: string) => {
          const node = tree.lookup(path);
          return node?.type === "directory" ? [...node.children.keys()].sort() : node?.type;
        };
        assert.deepEqual(names("var/old"), ["new"]);
        assert.deepEqual(names("lib"), ["real"]);
        assert.equal(tree.lookup("usr/lib"), undefined);
        // Other readers understand it as well.
        await Deno.writeFile(at("layer.tar"), layer);
        const { stdout } = await run("tar", ["tf", at("layer.tar")]);
        assert.ok(stdout.includes("var/old/.wh..wh..opq\n"));
        assert.ok(stdout.includes("etc/.wh.gone\n"));
      } finally {
        await run("umount", [at("root")]);
      }
    } finally {
      await run("umount", [at("disk")]);
    }
  },
});
