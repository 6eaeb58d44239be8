import assert from "node:assert/strict";
import { makeKey, startMirror, testOptions, type TestPackage } from "../debian/fixtures_test.ts";
import { openDebian } from "../debian/debian.ts";
import { directoryNode, fileNode, symlinkNode, Tree } from "../tree.ts";
import { ImageBudget } from "../limits.ts";
import { addInstalledPackages } from "./installed_packages.ts";

const KEY = await makeKey();
const PACKAGES: readonly TestPackage[] = [
  { name: "tool", fields: { Depends: "lib, libc6" }, files: [{ name: "./bin/tool", content: "" }] },
  { name: "lib", version: "2.0-1", files: [{ name: "./lib/lib.so", content: "new" }] },
  { name: "libc6", version: "2.36-9", files: [{ name: "./lib/libc.so.6", content: "archive's" }] },
];

/** A merged-/usr system in which dpkg has installed some packages. */
function system(installed: Readonly<Record<string, string>>): Tree {
  const tree = new Tree();
  for (const name of ["bin", "lib"]) {
    tree.add(`usr/${name}`, directoryNode());
    tree.add(name, symlinkNode(`usr/${name}`));
  }
  const status = Object.entries(installed).map(([name, version]) =>
    `Package: ${name}\nStatus: install ok installed\nVersion: ${version}\n`
  );
  status.push("Package: lib-old\nStatus: deinstall ok config-files\nVersion: 9\n");
  tree.add("var/lib/dpkg/status", fileNode(status.join("\n")));
  return tree;
}

async function withTool(work: (add: (tree: Tree) => Promise<void>) => Promise<void>) {
  await using mirror = await startMirror(KEY, PACKAGES);
  using setting = testOptions(mirror, KEY);
  const debian = await openDebian(setting.options);
  const wanted = debian.resolve(["tool"]);
  using budget = new ImageBudget("the image");
  await work((tree) => addInstalledPackages(tree, wanted, debian, "the image", budget));
}

Deno.test("a Debian image gets what it lacks, and keeps what it has", () =>
  withTool(async (add) => {
    const tree = system({ libc6: "2.36-9+deb12u4", lib: "1.0" });
    await add(tree);
    assert.equal(tree.lookup("usr/bin/tool")?.type, "file");
    assert.equal(tree.lookup("usr/lib/lib.so")?.type, "file"); // an older one was there
    assert.equal(tree.lookup("usr/lib/libc.so.6"), undefined); // a newer one is there
  }));

Deno.test("an image of another release, or of another system, is refused", () =>
  withTool(async (add) => {
    await assert.rejects(add(system({ libc6: "2.31-13" })), {
      code: "invalid-input",
      message: /another release \(libc6 2\.31-13\) than the archive \(libc6 2\.36-9\)/,
    });
    await assert.rejects(add(new Tree()), { code: "invalid-input", message: /no Debian system/ });
  }));
