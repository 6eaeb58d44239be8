/** The module graph that is fetched at once has all that is loaded later. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { checkoutPath } from "./paths.ts";

/** Modules that a source loads later: lazy imports, texts and workers. */
function loadedLater(path: string, source: string): string[] {
  const uses = source.matchAll(/(?:lazyImport<[^>]*>|lazyText)\(\s*"([^"]+)"/g);
  const workers = source.matchAll(/new URL\("([^"]+_?worker\.ts)", import\.meta\.url\)/g);
  return [...uses, ...workers].map(([, specifier]) => join(dirname(path), specifier!));
}

Deno.test("offline.ts names every module that is loaded later, and no other", async () => {
  const root = checkoutPath("../");
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "-co", "--exclude-standard", "*.ts"],
    cwd: root,
  })
    .output();
  const paths = new TextDecoder().decode(stdout).trim().split("\n").filter((path) =>
    !/(test|testing)\.ts$|^(test|bench|docs|examples|lint|tools)\//.test(path)
  );
  const later = new Set<string>();
  for (const path of paths) {
    const source = await Deno.readTextFile(root + path);
    for (const found of loadedLater(path, source)) later.add(found);
  }
  const listed = [
    ...(await Deno.readTextFile(`${root}offline.ts`)).matchAll(/import\("\.\/([^"]+)"/g),
  ]
    .map(([, path]) => path);
  assert(later.size > 30, `${later.size}`);
  assert.deepEqual(listed.toSorted(), [...later].sort());
});
