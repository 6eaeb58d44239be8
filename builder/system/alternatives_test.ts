import assert from "node:assert/strict";
import { fileNode, symlinkNode, Tree } from "../tree.ts";
import { addAlternatives } from "./alternatives.ts";
import { readText } from "./text.ts";

function treeOf(...files: string[]): Tree {
  const tree = new Tree();
  for (const path of files) tree.add(path, fileNode("", { mode: 0o755 }));
  return tree;
}

function link(tree: Tree, path: string): string | undefined {
  const node = tree.lookup(path);
  return node?.type === "symlink" ? node.target : node?.type;
}

const MORE = "update-alternatives --install /usr/bin/pager pager /bin/more 50\n";
const LESS = `set -e
case "$1" in
  configure)
    update-alternatives --quiet --install /usr/bin/pager pager \\
      /usr/bin/less 77 --slave /usr/share/man/man1/pager.1.gz \\
      pager.1.gz /usr/share/man/man1/less.1.gz --slave /usr/bin/lesser lesser /usr/bin/less
  ;;
esac
`;

Deno.test("the choice with the highest priority is linked, and update-alternatives knows all", () => {
  const tree = treeOf("bin/more", "usr/bin/less");
  addAlternatives(tree, [LESS, MORE]);
  assert.equal(link(tree, "usr/bin/pager"), "/etc/alternatives/pager");
  assert.equal(link(tree, "etc/alternatives/pager"), "/usr/bin/less");
  assert.equal(link(tree, "usr/bin/lesser"), "/etc/alternatives/lesser");
  assert.equal(link(tree, "usr/share/man/man1/pager.1.gz"), undefined, "its target is not there");
  assert.equal(
    readText(tree, "var/lib/dpkg/alternatives/pager"),
    `auto
/usr/bin/pager
lesser
/usr/bin/lesser
pager.1.gz
/usr/share/man/man1/pager.1.gz

/bin/more
50


/usr/bin/less
77
/usr/bin/less
/usr/share/man/man1/less.1.gz

`,
  );
});

Deno.test("what is computed, commented out, not there or a file already is left alone", () => {
  const tree = treeOf("usr/bin/a", "usr/bin/taken");
  tree.add("usr/bin/old", symlinkNode("elsewhere"));
  addAlternatives(tree, [
    "update-alternatives --install /usr/bin/x x $target 10\n",
    "for i in vi; do update-alternatives --install /usr/bin/$i $i /usr/bin/a 10; done\n",
    "# update-alternatives --install /usr/bin/y y /usr/bin/a 10\n",
    "update-alternatives --install /usr/bin/z z /usr/bin/missing 10\n",
    "update-alternatives --install /usr/bin/taken taken /usr/bin/a 10\n",
    "update-alternatives --install /usr/bin/w ../../w /usr/bin/a 10\n",
    "update-alternatives --remove q /usr/bin/a\n",
    "update-alternatives --install /usr/bin/old old /usr/bin/a 10 || true\n",
  ]);
  assert.equal(link(tree, "usr/bin/taken"), "file");
  assert.equal(link(tree, "etc/alternatives/old"), "/usr/bin/a");
  const names = (path: string) => {
    const node = tree.lookup(path);
    return node?.type === "directory" ? [...node.children.keys()].sort() : [];
  };
  assert.deepEqual(names("usr/bin"), ["a", "old", "taken"]);
  assert.deepEqual(names("etc/alternatives"), ["old"]);
  assert.deepEqual(names("var/lib/dpkg/alternatives"), ["old"]);
});
