import assert from "node:assert/strict";
import { join } from "node:path";
import { writeErofs } from "../builder/erofs/mod.ts";
import { fileNode, Tree } from "../builder/tree.ts";
import { withMount } from "./mount.ts";
import { oracle, run } from "./oracle.ts";

Deno.test("a file over 4 GiB keeps its size and its end", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const size = 2 ** 32 + 5000;
    const source = join(directory, "source");
    {
      using file = await Deno.open(source, { write: true, create: true });
      await file.seek(size - 3, Deno.SeekMode.Start);
      await file.write(new TextEncoder().encode("end"));
    }
    const tree = new Tree();
    tree.add("large", {
      ...fileNode(""),
      content: { kind: "file", path: source, offset: 0, size },
    });
    const image = join(directory, "image");
    await writeErofs(tree, image);
    if (await oracle("dump.erofs")) {
      const { stdout } = await run("dump.erofs", ["--path=/large", image]);
      assert.match(stdout, new RegExp(`Size: ${size} `));
    }
    await withMount(image, (mounted) => {
      using file = Deno.openSync(join(mounted, "large"));
      assert.equal(file.seekSync(-3, Deno.SeekMode.End), size - 3);
      const end = new Uint8Array(4);
      assert.equal(file.readSync(end), 3);
      assert.equal(new TextDecoder().decode(end.subarray(0, 3)), "end");
    });
    // Zeros are holes: the image takes next to no space.
    assert.ok((await Deno.stat(image)).blocks! * 512 < 64 * 1024 * 1024);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
