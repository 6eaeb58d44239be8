import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { CloudletError } from "../base/errors.ts";
import { assertSameTree, randomTree } from "../test/trees.ts";
import { extractTree } from "./extract.ts";
import { directoryNode, fileNode, symlinkNode, Tree } from "./tree.ts";

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await work(directory);
  } finally {
    await new Deno.Command("chmod", { args: ["-R", "u+rwx", directory] }).output();
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("an extracted directory equals the tree", async () => {
  await fc.assert(
    fc.asyncProperty(randomTree, async (tree) => {
      await withDirectory(async (directory) => {
        tree.root.mode |= 0o700; // or the comparison could not read it
        await extractTree(tree, directory);
        assertSameTree(tree, directory, {
          owners: Deno.uid() === 0,
          setIds: Deno.uid() === 0,
          devices: false,
          links: true,
          linkTimes: false,
        });
      });
    }),
    { numRuns: 30 },
  );
});

Deno.test("a slice of a host file is extracted as just that slice", async () => {
  await withDirectory(async (directory) => {
    const source = join(directory, "source");
    const bytes = new Uint8Array(3_000_000).map((_, i) => i * 7);
    await Deno.writeFile(source, bytes);
    const tree = new Tree();
    for (const [offset, size] of [[5, 2_500_000], [0, 1], [2_999_999, 1]] as const) {
      tree.add(`${offset}`, {
        ...fileNode(""),
        content: { kind: "file", path: source, offset, size },
      });
    }
    await extractTree(tree, join(directory, "out"));
    for (const [offset, size] of [[5, 2_500_000], [0, 1], [2_999_999, 1]] as const) {
      const got = await Deno.readFile(join(directory, "out", `${offset}`));
      assert.deepEqual(got, bytes.slice(offset, offset + size));
    }
  });
});

Deno.test("a directory that is not empty is refused, so that no link in it is followed", async () => {
  await withDirectory(async (directory) => {
    const goal = join(directory, "goal");
    const elsewhere = join(directory, "elsewhere");
    await Deno.mkdir(goal);
    await Deno.mkdir(elsewhere);
    await Deno.symlink(elsewhere, join(goal, "etc"));
    const tree = new Tree();
    tree.add("etc/passwd", fileNode("root"));
    await assert.rejects(
      extractTree(tree, goal),
      (error) => error instanceof CloudletError && error.code === "invalid-input",
    );
    assert.deepEqual([...Deno.readDirSync(elsewhere)], []);
  });
});

Deno.test("a symbolic link in the tree is written, never followed", async () => {
  await withDirectory(async (directory) => {
    const outside = join(directory, "outside");
    await Deno.mkdir(outside);
    const tree = new Tree();
    tree.root.children.set("out", symlinkNode(outside));
    tree.root.children.set("also", directoryNode());
    await extractTree(tree, join(directory, "goal"));
    assert.equal(await Deno.readLink(join(directory, "goal/out")), outside);
    assert.deepEqual([...Deno.readDirSync(outside)], []);
  });
});

Deno.test("a content whose host file became shorter is an error that names the file", async () => {
  await withDirectory(async (directory) => {
    const source = join(directory, "source");
    await Deno.writeFile(source, new Uint8Array(10));
    const tree = new Tree();
    tree.add("x", { ...fileNode(""), content: { kind: "file", path: source, offset: 5, size: 6 } });
    await assert.rejects(
      extractTree(tree, join(directory, "goal")),
      (error) => error instanceof CloudletError && error.message.includes(source),
    );
  });
});
