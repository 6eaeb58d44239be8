import assert from "node:assert/strict";
import { join } from "node:path";
import { command, hasCommand, testDirectory } from "../archive/fixtures_test.ts";
import { extractTree } from "../extract.ts";
import { fileNode, symlinkNode, Tree } from "../tree.ts";
import { addLinkerCache, compareLibraryNames, findLibraries } from "./linker_cache.ts";

const CC = hasCommand("gcc") ? "gcc" : undefined;

/** A shared library of this name. */
async function library(directory: string, soname: string | undefined): Promise<Uint8Array> {
  const path = join(directory, "made.so");
  const name = soname === undefined ? [] : [`-Wl,-soname,${soname}`];
  await command(CC!, "-shared", "-nostdlib", "-o", path, ...name, "-x", "c", "/dev/null");
  return await Deno.readFile(path);
}

/** A system with libraries as packages bring them, in three directories. */
async function system(directory: string): Promise<Tree> {
  const tree = new Tree();
  for (const name of ["lib", "sbin"]) tree.add(name, symlinkNode(`usr/${name}`));
  tree.add("usr/sbin/ldconfig", fileNode("", { mode: 0o755 }));
  tree.add("etc/ld.so.conf", fileNode("include /etc/ld.so.conf.d/*.conf\n"));
  tree.add("etc/ld.so.conf.d/a.conf", fileNode("# ours\n/usr/local/lib\n"));
  tree.add(
    "etc/ld.so.conf.d/b.conf",
    fileNode("/lib/x86_64-linux-gnu # both\n/usr/lib/x86_64-linux-gnu\n"),
  );
  tree.add("etc/ld.so.conf.d/b.conf.old", fileNode("/opt\n"));
  const add = async (path: string, soname: string | undefined) => {
    tree.add(path, fileNode(await library(directory, soname), { mode: 0o644 }));
  };
  const main = "usr/lib/x86_64-linux-gnu";
  await add(`${main}/libx.so.1.2.3`, "libx.so.1");
  tree.add(`${main}/libx.so.1`, symlinkNode("libx.so.1.2.3"));
  tree.add(`${main}/libx.so`, symlinkNode("libx.so.1"));
  await add(`${main}/libx.so.10`, "libx.so.10");
  await add(`${main}/libx.so.9`, "libx.so.9");
  await add(`${main}/libplain.so`, undefined);
  await add(`${main}/plugin.so`, "plugin.so");
  tree.add(`${main}/libbroken.so.1`, symlinkNode("nowhere"));
  tree.add(`${main}/libtext.so`, fileNode("INPUT(-lx)\n"));
  tree.add(`${main}/libshort.so.1`, fileNode("\x7fELF\x02\x01"));
  await add("usr/local/lib/libx.so.1", "libx.so.1");
  await add("usr/lib/libabove.so.3", "libabove.so.3");
  await add("opt/libold.so.1", "libold.so.1");
  return tree;
}

Deno.test({
  name: "the linker's cache lists what ldconfig lists, in its order",
  ignore: CC === undefined || !hasCommand("ldconfig"),
  async fn() {
    using directory = testDirectory();
    const tree = await system(directory.path);
    addLinkerCache(tree);
    const root = join(directory.path, "root");
    await extractTree(tree, root);
    const cache = "/etc/ld.so.cache";
    const list = async () =>
      new TextDecoder().decode(await command("ldconfig", "-p", "-C", join(root, cache)))
        .split("\n").filter((line) => line.includes("=>"));
    const ours = await list();
    await Deno.remove(join(root, cache));
    await command("ldconfig", "-X", "-r", root);
    assert.deepEqual(ours, await list());
    assert(ours.length >= 6, ours.join("\n"));
    // One that is named twice is that of the first directory.
    assert.equal(
      findLibraries(tree).find(({ name }) => name === "libx.so.1")?.path,
      "/usr/local/lib/libx.so.1",
    );
  },
});

Deno.test("library names are ordered by numbers, as the linker's search needs", () => {
  const sorted = ["ld-linux.so.2", "libx.so", "libx.so.1", "libx.so.9", "libx.so.10", "libxy.so.1"];
  for (const [i, a] of sorted.entries()) {
    for (const [j, b] of sorted.entries()) {
      assert.equal(Math.sign(compareLibraryNames(a, b)), Math.sign(i - j), `${a} ${b}`);
    }
  }
});

Deno.test("a system without ldconfig gets no cache", () => {
  const tree = new Tree();
  addLinkerCache(tree);
  assert.deepEqual([...tree.entries()], []);
});
