import assert from "node:assert/strict";
import { imageDeclaration, imageNames } from "./declarations.ts";

Deno.test("each language and tiny is an image, and only those with an agent hold Deno's libraries", () => {
  assert.deepEqual(imageNames(), ["bash", "deno", "node", "python", "rust", "tiny"]);
  for (const name of imageNames()) {
    const { agent, packages } = imageDeclaration(name);
    assert.equal(packages.includes("libgcc-s1"), agent, name);
    assert.ok(packages.includes("busybox-static"), name);
  }
});

Deno.test("packages of the user come besides those of the image, each once", () => {
  const { packages } = imageDeclaration("python");
  const extended = imageDeclaration("python", ["python3-six", packages[0]!]);
  assert.deepEqual(extended.packages, [...packages, "python3-six"]);
  assert.equal(extended.name, "python");
});

Deno.test("an image that does not exist is refused with the nearest name", () => {
  assert.throws(() => imageDeclaration("rsut"), { code: "not-found", remedy: /"rust"/ });
  assert.throws(() => imageDeclaration("constructor"), { code: "not-found" });
});
