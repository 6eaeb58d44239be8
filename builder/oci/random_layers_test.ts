/** Random layers, which no tool would write, against what `umoci unpack` makes of them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { run } from "../../test/oracle.ts";
import { makeTar, type TarEntry, testDirectory } from "../archive/fixtures_test.ts";
import { openSource } from "../archive/source.ts";
import { contentBytes } from "../content.ts";
import { Tree, type TreeNode } from "../tree.ts";
import { hasTools } from "./fixtures_test.ts";
import { ImageBudget } from "../limits.ts";
import { applyLayer } from "./layer.ts";

const name = fc.constantFrom("a", "b", "c");
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join("/"));
const below = fc.oneof(fc.constant(""), path.map((path) => `${path}/`));

/** One member; the targets of links are often there. */
const member: fc.Arbitrary<TarEntry> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ name: path, content: fc.constantFrom("x", "y", "zz") }) },
  { weight: 3, arbitrary: path.map((name) => ({ name: `${name}/`, flag: "5" })) },
  {
    weight: 2,
    arbitrary: fc.tuple(path, fc.constantFrom("a", "/b", "../c", "a/b", "../../..", "none"))
      .map(([name, link]) => ({ name, flag: "2", link })),
  },
  { weight: 1, arbitrary: fc.tuple(path, path).map(([name, link]) => ({ name, flag: "1", link })) },
  {
    weight: 2,
    arbitrary: fc.tuple(below, name).map(([at, name]) => ({ name: `${at}.wh.${name}` })),
  },
  { weight: 1, arbitrary: below.map((at) => ({ name: `${at}.wh..wh..opq` })) },
);
const layers = fc.array(fc.array(member, { minLength: 1, maxLength: 6 }), {
  minLength: 1,
  maxLength: 3,
});

/** The names below a directory of the host with what they are; files by number of names too. */
function hostTree(directory: string, prefix = ""): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { name } of Deno.readDirSync(join(directory, prefix))) {
    const path = prefix + name;
    const info = Deno.lstatSync(join(directory, path));
    if (info.isDirectory) {
      found[path] = "directory";
      Object.assign(found, hostTree(directory, `${path}/`));
    } else if (info.isSymlink) {
      found[path] = `-> ${Deno.readLinkSync(join(directory, path))} ${info.nlink}`;
    } else {
      found[path] = `${Deno.readTextFileSync(join(directory, path))} ${info.nlink}`;
    }
  }
  return found;
}

function ownTree(tree: Tree): Record<string, string> {
  const links = new Map<TreeNode, number>();
  for (const [, node] of tree.entries()) links.set(node, (links.get(node) ?? 0) + 1);
  return Object.fromEntries(
    [...tree.entries()].map(([path, node]) => {
      if (node.type === "directory") return [path, "directory"];
      const count = links.get(node);
      if (node.type === "symlink") return [path, `-> ${node.target} ${count}`];
      assert.equal(node.type, "file");
      if (node.type !== "file") throw new Error("not reached");
      return [path, `${new TextDecoder().decode(contentBytes(node.content))} ${count}`];
    }),
  );
}

/** Ours, or undefined when a layer is refused. */
function merge(archives: readonly Uint8Array<ArrayBuffer>[]): Record<string, string> | undefined {
  const tree = new Tree();
  try {
    for (const bytes of archives) {
      using source = openSource({ kind: "bytes", bytes }, "layer");
      using budget = new ImageBudget("the image");
      applyLayer(source, tree, budget);
    }
  } catch {
    return undefined;
  }
  return ownTree(tree);
}

Deno.test("random layers become what umoci makes of them", async () => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const cwd = directory.path;
  await run("umoci", ["init", "--layout", "empty"], { cwd });
  await run("umoci", ["new", "--image", "empty:t"], { cwd });
  let compared = 0;
  await fc.assert(
    fc.asyncProperty(layers, async (layers) => {
      const archives = layers.map((layer) => makeTar(layer));
      const own = merge(archives);
      await run("rm", ["-rf", "layout", "bundle"], { cwd });
      await run("cp", ["-r", "empty", "layout"], { cwd });
      for (const archive of archives) {
        await Deno.writeFile(join(cwd, "layer.tar"), archive);
        await run("umoci", ["raw", "add-layer", "--image", "layout:t", "layer.tar"], { cwd });
      }
      const { success, stderr } = await new Deno.Command("umoci", {
        args: ["unpack", "--image", "layout:t", "bundle"],
        cwd,
      }).output();
      const said = new TextDecoder().decode(stderr);
      assert.equal(own !== undefined, success, `umoci: ${said}`);
      if (own === undefined) return;
      compared++;
      assert.deepEqual(own, hostTree(join(cwd, "bundle/rootfs")));
    }),
    { numRuns: Number(Deno.env.get("CLOUDLET_TEST_LAYERS") ?? 40) },
  );
  assert.ok(compared > 0);
});
