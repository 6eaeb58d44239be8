/** The place for cloudlet's own things in images that have something else there. */
import { deepEqual, equal, match, throws } from "node:assert/strict";
import { run } from "../../test/oracle.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { directoryNode, fileNode, symlinkNode, Tree } from "../tree.ts";
import { HOME } from "./init.ts";
import { makeWay, withoutPreload } from "./payload.ts";

/** Where the image's own links lead to HOME, with a file in it; the real path of that file. */
function withHome(tree: Tree): string {
  makeWay(tree);
  tree.add(`${HOME}/agent.js`, fileNode("agent"));
  equal(tree.lookup(`${HOME}/agent.js`)?.type, "file");
  const [found] = [...tree.entries()].find(([path]) => path.endsWith("agent.js"))!;
  return found;
}

function treeOf(add: (tree: Tree) => void): Tree {
  const tree = new Tree();
  add(tree);
  return tree;
}

Deno.test("there is room for the agent whatever the image has in its place", () => {
  const cases: [string, (tree: Tree) => void][] = [
    [`${HOME}/agent.js`, () => {}],
    [`${HOME}/agent.js`, (tree) => tree.add("usr", fileNode("a file"))],
    [`${HOME}/agent.js`, (tree) => tree.add("usr/lib", fileNode("a file"))],
    [`${HOME}/agent.js`, (tree) => tree.add(HOME, symlinkNode("elsewhere"))],
    [`${HOME}/agent.js`, (tree) => tree.add("usr", symlinkNode("usr"))],
    ["opt/lib/cloudlet/agent.js", (tree) => tree.add("usr", symlinkNode("/opt"))],
    ["lib/cloudlet/agent.js", (tree) => {
      tree.add("usr/lib", symlinkNode("../lib"));
      tree.add("lib", directoryNode());
    }],
    [`${HOME}/agent.js`, (tree) => {
      tree.add("usr/lib", symlinkNode("/file"));
      tree.add("file", fileNode("a file"));
    }],
  ];
  for (const [expected, add] of cases) equal(withHome(treeOf(add)), expected, String(add));
});

Deno.test("what the image has in the agent's own directory is gone", () => {
  const tree = treeOf((tree) => tree.add(`${HOME}/deno`, fileNode("of the image")));
  makeWay(tree);
  equal(tree.lookup(`${HOME}/deno`), undefined);
});

Deno.test("a linker that names no file of libraries to preload, or several, is refused", () => {
  const encode = (text: string) => new TextEncoder().encode(text);
  for (const text of ["", "/etc/ld.so.preload", "/etc/ld.so.preload\0/etc/ld.so.preload\0"]) {
    throws(() => withoutPreload(encode(text)), { code: "untrusted" });
  }
  deepEqual(withoutPreload(encode("a/etc/ld.so.preload\0b")), encode("a/dev/null/cloudlet\0b"));
});

Deno.test({
  name: "the agent's linker loads nothing that the image wants preloaded",
  ignore: Deno.uid() !== 0 || Deno.build.arch !== "x86_64",
  async fn() {
    using directory = testDirectory();
    const path = `${directory.path}/ld.so`;
    const linker = Deno.readFileSync("/lib64/ld-linux-x86-64.so.2");
    // In a mount name space of its own: /etc is another one for this command.
    const preloaded = async (bytes: Uint8Array) => {
      Deno.writeFileSync(path, bytes, { mode: 0o755 });
      const script = "mount -t tmpfs none /etc; echo /no/such.so >/etc/ld.so.preload; " +
        `exec ${path} --inhibit-cache /bin/true`;
      return (await run("unshare", ["-m", "/bin/sh", "-c", script])).stderr;
    };
    match(await preloaded(linker), /\/no\/such\.so/);
    equal(await preloaded(withoutPreload(linker)), "");
  },
});
