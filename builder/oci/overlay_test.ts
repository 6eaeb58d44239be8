/** Layers as overlay runtimes see them: each one unpacked by itself, and mounted over those below. */
import assert from "node:assert/strict";
import { makeTar, paxHeader, type TarEntry } from "../archive/fixtures_test.ts";
import { openSource } from "../archive/source.ts";
import { contentBytes } from "../content.ts";
import { ImageBudget } from "../limits.ts";
import { Tree } from "../tree.ts";
import { applyLayer } from "./layer.ts";

/** What layers become: each path with what it is. */
function merged(...layers: readonly (readonly TarEntry[])[]): Record<string, string> {
  const tree = new Tree();
  for (const layer of layers) {
    using source = openSource({ kind: "bytes", bytes: makeTar(layer) }, "layer");
    using budget = new ImageBudget("the image");
    applyLayer(source, tree, budget);
  }
  return Object.fromEntries(
    [...tree.entries()].map(([path, node]) => {
      if (node.type === "symlink") return [path, `-> ${node.target}`];
      if (node.type !== "file") return [path, `${node.type} ${node.mode.toString(8)}`];
      return [path, new TextDecoder().decode(contentBytes(node.content))];
    }),
  );
}

const file = (name: string, content = "") => ({ name, content });
const link = (name: string, link: string) => ({ name, flag: "2", link });
const hard = (name: string, link: string) => ({ name, flag: "1", link });
const directory = (name: string, mode = 0o755) => ({ name, flag: "5", mode });

Deno.test("a directory takes the place of a lower file that a member lies below", () => {
  assert.deepEqual(merged([file("opt/tool", "old")], [file("opt/tool/bin/run", "new")]), {
    "opt": "directory 755",
    "opt/tool": "directory 755",
    "opt/tool/bin": "directory 755",
    "opt/tool/bin/run": "new",
  });
  // A device or a pipe is no different.
  const pipe = { name: "pipe", flag: "6" };
  assert.deepEqual(merged([pipe], [file("pipe/x", "x")]), { pipe: "directory 755", "pipe/x": "x" });
});

Deno.test("so it does in the place of a lower link, wherever that leads", () => {
  for (const target of ["usr/lib", "/usr/lib", "../../../usr/lib", "none", "/usr/file", "lib"]) {
    const lower = [
      directory("usr/lib"),
      file("usr/lib/old"),
      file("usr/file"),
      link("lib", target),
    ];
    const found = merged(lower, [file("lib/new", "new")]);
    assert.equal(found["lib"], "directory 755", target);
    assert.equal(found["lib/new"], "new");
    assert.equal(found["lib/old"], undefined);
    assert.equal(found["usr/lib/new"], undefined);
    assert.equal(found["usr/lib/old"], "");
  }
});

Deno.test("the directory has the owner and the mode of the one that the lower link led to", () => {
  const lower = [directory("var/tmp", 0o1777), link("tmp", "var/tmp")];
  assert.equal(merged(lower, [file("tmp/x")])["tmp"], "directory 1777");
});

Deno.test("a layer's own links lead on, inside what the layer has", () => {
  const lower = [file("opt/tool", "old"), directory("etc"), file("etc/kept", "kept")];
  const upper = [
    link("l", "/../../opt/tool"),
    file("l/x", "x"),
    link("e", "etc"),
    file("e/y", "y"),
  ];
  assert.deepEqual(merged(lower, upper), {
    "e": "-> etc",
    "etc": "directory 755",
    "etc/kept": "kept",
    "etc/y": "y",
    "l": "-> /../../opt/tool",
    "opt": "directory 755",
    "opt/tool": "directory 755",
    "opt/tool/x": "x",
  });
});

Deno.test("a directory that became a file is empty when it is one again", () => {
  const layers = [[file("d/old")], [file("d", "file")], [file("d/new")]];
  assert.deepEqual(Object.keys(merged(...layers)), ["d", "d/new"]);
  assert.deepEqual(Object.keys(merged(layers[0]!, layers[1]!, [directory("d")])), ["d"]);
  assert.deepEqual(merged(layers[0]!, layers[1]!), { d: "file" });
});

Deno.test("a whiteout below a lower file or link is of the directory in its place", () => {
  const lower = [file("usr/lib/x", "x"), link("lib", "usr/lib"), file("tool", "old")];
  const found = merged(lower, [file("lib/.wh.x"), file("tool/.wh.run")]);
  assert.equal(found["usr/lib/x"], "x");
  assert.equal(found["lib"], "directory 755");
  assert.equal(found["tool"], "directory 755");
});

Deno.test("a name below a file of its own layer is refused", () => {
  assert.throws(() => merged([file("a"), file("a/b")]), { code: "untrusted", message: /below/ });
  assert.throws(() => merged([file("a")], [file("a"), link("l", "a"), file("l/b")]), {
    code: "untrusted",
  });
});

Deno.test("a link's target makes no directory with a name that no file system takes", () => {
  const layer = (target: string) => [paxHeader([["linkpath", target]]), link("l", ""), file("l/x")];
  assert.equal(merged(layer("n".repeat(255)))["l/x"], undefined);
  assert.throws(() => merged(layer("n".repeat(256))), { code: "untrusted", message: /255 bytes/ });
});

Deno.test("what aufs notes for itself is left out, wherever it is", () => {
  const layer = [
    directory(".wh..wh.plnk"),
    file(".wh..wh.plnk/123.456", "linked"),
    file(".wh..wh.aufs"),
    directory(".wh..wh.orph"),
    file(".wh..wh.orph/deep/er"),
    directory("srv"),
    file("srv/.wh..wh.other/x"),
    file("srv/.wh..wh..opq/x"),
    hard("srv/one", ".wh..wh.plnk/123.456"),
    hard("two", "/.wh..wh.plnk/123.456"),
  ];
  assert.deepEqual(merged(layer), { srv: "directory 755", "srv/one": "linked", two: "linked" });
  assert.throws(() => merged([hard("one", ".wh..wh.plnk/1.2")]), { message: /not there/ });
  // Nothing of a lower layer's notes is left to link to.
  assert.throws(() => merged(layer, [hard("three", ".wh..wh.plnk/123.456")]), {
    message: /not there/,
  });
});

Deno.test("an opaque directory hides what is below among aufs's notes", () => {
  const upper = [file("a/.wh..wh..opq"), file("a/.wh..wh.aufs"), file("a/new")];
  assert.deepEqual(Object.keys(merged([file("a/old")], upper)), ["a", "a/new"]);
});
