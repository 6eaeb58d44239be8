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

Deno.test("each language's image is a whole Debian system", () => {
  for (const name of imageNames()) {
    const { agent, essential, packages, suite } = imageDeclaration(name);
    assert.equal(essential, agent, name);
    assert.equal(suite, "trixie");
    for (const tool of ["procps", "file", "less", "patch", "xz-utils", "tzdata"]) {
      assert.equal(packages.includes(tool), agent, `${name} ${tool}`);
    }
  }
});

Deno.test("a version is of the release that has it, whatever the settings' release is", () => {
  const { name, suite, packages } = imageDeclaration("python@3.11", ["x"], "trixie");
  assert.deepEqual([name, suite, packages.at(-1)], ["python@3.11", "bookworm", "x"]);
  assert.equal(imageDeclaration("python", [], "bookworm").suite, "bookworm");
  assert.equal(imageDeclaration("python@3", [], "bookworm").name, "python@3.13");
  assert.throws(() => imageDeclaration("python@3.12"), {
    code: "invalid-input",
    remedy: /image pull python:3\.12-slim/,
  });
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
