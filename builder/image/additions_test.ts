import { equal } from "node:assert/strict";
import { ImageBudget } from "../limits.ts";
import { Tree } from "../tree.ts";
import { applyAdditions } from "./additions.ts";

Deno.test("added files may be links and directories, and no file goes where a link leads", async () => {
  const tree = new Tree();
  const content = new TextEncoder().encode("x");
  const none = new Uint8Array();
  const files = [
    { path: "opt/a/current", content: none, mode: 0, target: "1/x" },
    { path: "opt/a/1/x", content, mode: 0o755 },
    { path: "opt/a/empty", content: none, mode: 0, directory: true },
  ];
  using budget = new ImageBudget("an image");
  await applyAdditions(tree, { files, layers: [] }, budget);
  const link = tree.lookup("opt/a/current");
  equal(link?.type === "symlink" && link.target, "1/x");
  equal(tree.lookup("opt/a/empty")?.type, "directory");
  equal(tree.lookup("opt/a/1/x")?.mode, 0o755);
});
