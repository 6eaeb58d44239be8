import assert from "node:assert/strict";
import { bundleAgent } from "./bundle.ts";

Deno.test("several callers at once, and one after them, get the same bundle", async () => {
  const later = new Promise((resolve) => setTimeout(resolve, 5));
  const bundles = await Promise.all([bundleAgent(), bundleAgent(), later.then(bundleAgent)]);
  bundles.push(await bundleAgent());
  assert.equal(new Set(bundles.map(({ sha256 }) => sha256)).size, 1);
  assert(bundles[0]!.code.length > 0);
});
