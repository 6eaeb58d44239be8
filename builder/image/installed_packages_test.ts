import assert from "node:assert/strict";
import { makeKey, startMirror, testOptions, type TestPackage } from "../debian/fixtures_test.ts";
import { openDebian } from "../debian/debian.ts";
import { directoryNode, fileNode, symlinkNode, Tree } from "../tree.ts";
import { ImageBudget } from "../limits.ts";
import { addInstalledPackages, debianRelease } from "./installed_packages.ts";

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

Deno.test("an image's release is what its os-release says, wherever it is", () => {
  const image = (path: string, text: string) => {
    const tree = new Tree();
    tree.add(path, fileNode(text));
    if (path.startsWith("usr/")) tree.add("etc/os-release", symlinkNode("../usr/lib/os-release"));
    return tree;
  };
  const bookworm = 'PRETTY_NAME="Debian GNU/Linux 12"\nVERSION_CODENAME=bookworm\nID=debian\n';
  assert.equal(debianRelease(image("usr/lib/os-release", bookworm), "it"), "bookworm");
  assert.equal(debianRelease(image("etc/os-release", bookworm), "it"), "bookworm");
  const refused: readonly (readonly [string, RegExp])[] = [
    ["ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n", /it is no Debian system/],
    ["ID=debian\n", /its os-release names no release of Debian/],
    ["ID=debian\nVERSION_CODENAME=../../x\n", /names no release/], // it becomes part of a URL
    [bookworm + "#".repeat(70_000), /it is no Debian system/],
  ];
  for (const [text, message] of refused) {
    assert.throws(() => debianRelease(image("etc/os-release", text), "it"), {
      code: "invalid-input",
      message,
    });
  }
  assert.throws(() => debianRelease(new Tree(), "it"), { message: /it is no Debian system/ });
});
