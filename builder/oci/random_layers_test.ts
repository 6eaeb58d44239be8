/**
 * Random layers, which no tool would write, against what overlay runtimes make of them: each layer
 * unpacked by umoci into a directory of its own, and mounted by Linux over those below.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { run } from "../../test/oracle.ts";
import { makeTar, type TarEntry, testDirectory } from "../archive/fixtures_test.ts";
import { openSource } from "../archive/source.ts";
import { contentBytes } from "../content.ts";
import { Tree } from "../tree.ts";
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
    arbitrary: fc.tuple(path, fc.constantFrom("a", "/b", "../c", "a/b", "../../../b", "none"))
      .map(([name, link]) => ({ name, flag: "2", link })),
  },
  { weight: 1, arbitrary: fc.tuple(path, path).map(([name, link]) => ({ name, flag: "1", link })) },
  {
    weight: 2,
    arbitrary: fc.tuple(below, name).map(([at, name]) => ({ name: `${at}.wh.${name}` })),
  },
  // Not at the root, which overlayfs always merges.
  { weight: 1, arbitrary: path.map((at) => ({ name: `${at}/.wh..wh..opq` })) },
);
/** Each name once, and whiteouts at the end: {@linkcode HIDE} sees what the whole layer has. */
const layer = fc.uniqueArray(member, {
  minLength: 1,
  maxLength: 6,
  selector: ({ name }) => name.replace(/\/$/, ""),
}).map((members) => [
  ...members.filter(({ name }) => !isWhiteout(name)),
  ...members.filter(({ name }) => isWhiteout(name)),
]);
const layers = fc.array(layer, { minLength: 1, maxLength: 3 });

function isWhiteout(name: string): boolean {
  return name.includes(".wh.");
}

/**
 * Linux Documentation/filesystems/overlayfs.rst: what hides names of the layers below. The
 * directories of whiteouts are made, and a whiteout of what the layer itself has is of what is below.
 */
const HIDE = `
import os, sys
os.chroot(sys.argv[1])
names = [os.path.split("/" + name) for name in sys.argv[2:]]
for above, _ in names:
    try:
        os.makedirs(os.path.realpath(above), exist_ok=True)
        os.stat(above)
    except (FileExistsError, NotADirectoryError) as error:
        if os.path.islink(os.path.realpath(above)):
            sys.exit("links in a circle")
for above, name in names:
    path = above if name == ".wh..wh..opq" else os.path.join(above, name[len(".wh."):])
    if os.path.isdir(path) and (path == above or not os.path.islink(path)):
        os.setxattr(path, "trusted.overlay.opaque", b"y")
    elif os.path.isdir(above) and not os.path.lexists(path):
        os.mknod(path, 0o20000, 0)
`;

/** The names below a directory of the host with what they are. */
function hostTree(directory: string, prefix = ""): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { name } of Deno.readDirSync(join(directory, prefix))) {
    const path = prefix + name;
    const info = lstatIfAny(join(directory, path));
    if (info === undefined) continue; // Linux lists the whiteouts of a directory of one layer
    if (info.isDirectory) {
      found[path] = "directory";
      Object.assign(found, hostTree(directory, `${path}/`));
    } else if (info.isSymlink) {
      found[path] = `-> ${Deno.readLinkSync(join(directory, path))}`;
    } else {
      found[path] = Deno.readTextFileSync(join(directory, path));
    }
  }
  return found;
}

function lstatIfAny(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function ownTree(tree: Tree): Record<string, string> {
  return Object.fromEntries(
    [...tree.entries()].map(([path, node]) => {
      if (node.type === "directory") return [path, "directory"];
      if (node.type === "symlink") return [path, `-> ${node.target}`];
      assert.equal(node.type, "file");
      if (node.type !== "file") throw new Error("not reached");
      return [path, new TextDecoder().decode(contentBytes(node.content))];
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

Deno.test("random layers become what overlay runtimes make of them", async () => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const cwd = directory.path;
  await run("mount", ["-t", "tmpfs", "tmpfs", cwd]);
  try {
    await run("umoci", ["init", "--layout", "empty"], { cwd });
    await run("umoci", ["new", "--image", "empty:t"], { cwd });
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(layers, async (layers) => {
        const own = merge(layers.map((layer) => makeTar(layer)));
        const expected = await overlaid(layers, cwd);
        // A hard link may be to a file of a lower layer, which such a runtime does not see.
        const linked = layers.flat().some(({ flag }) => flag === "1");
        if (own === undefined || !linked) assert.equal(own !== undefined, expected !== undefined);
        if (own === undefined || expected === undefined) return;
        compared++;
        assert.deepEqual(own, expected);
      }),
      { numRuns: Number(Deno.env.get("CLOUDLET_TEST_LAYERS") ?? 40) },
    );
    assert.ok(compared > 0);
  } finally {
    await run("umount", [cwd]);
  }
});

async function accepts(name: string, args: readonly string[], cwd: string): Promise<boolean> {
  const command = new Deno.Command(name, { args: [...args], cwd, stdout: "null", stderr: "null" });
  return (await command.output()).success;
}

/** What the judges make of layers; undefined when umoci refuses one. */
async function overlaid(
  layers: readonly (readonly TarEntry[])[],
  cwd: string,
): Promise<Record<string, string> | undefined> {
  await run("sh", ["-c", "rm -rf layout bundle layer.tar root [0-9]; mkdir root 0"], { cwd });
  const lower = ["0"]; // Linux wants two at least
  for (const [i, layer] of layers.entries()) {
    await run("rm", ["-rf", "layout", "bundle"], { cwd });
    await run("cp", ["-r", "empty", "layout"], { cwd });
    const plain = layer.filter(({ name }) => !isWhiteout(name));
    await Deno.writeFile(join(cwd, "layer.tar"), makeTar(plain));
    await run("umoci", ["raw", "add-layer", "--image", "layout:t", "layer.tar"], { cwd });
    if (!(await accepts("umoci", ["unpack", "--image", "layout:t", "bundle"], cwd))) {
      return undefined;
    }
    const name = String(i + 1);
    await Deno.rename(join(cwd, "bundle/rootfs"), join(cwd, name));
    const hidden = layer.filter(({ name }) => isWhiteout(name)).map(({ name }) => name);
    if (!(await accepts("python3", ["-c", HIDE, name, ...hidden], cwd))) return undefined;
    lower.unshift(name);
  }
  const options = `lowerdir=${lower.join(":")},redirect_dir=off,metacopy=off`;
  await run("mount", ["-t", "overlay", "-o", options, "overlay", "root"], { cwd });
  try {
    return hostTree(join(cwd, "root"));
  } finally {
    await run("umount", ["root"], { cwd });
  }
}
