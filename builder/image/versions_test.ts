import assert from "node:assert/strict";
import { languages } from "../../workload/languages.ts";
import { parseReference } from "../oci/reference.ts";
import { DEFAULT_SUITE, LANGUAGE_VERSIONS, languageVersion, splitLanguage } from "./versions.ts";

Deno.test("the first version of each language is that of the default release, and each has one place", () => {
  assert.deepEqual(Object.keys(LANGUAGE_VERSIONS).sort(), Object.keys(languages).sort());
  for (const [language, versions] of Object.entries(LANGUAGE_VERSIONS)) {
    assert.equal(versions[0]?.suite ?? DEFAULT_SUITE, DEFAULT_SUITE, language);
    assert.equal(new Set(versions.map(({ version }) => version)).size, versions.length);
    for (const { suite, image } of versions) {
      assert.equal((suite === undefined) !== (image === undefined), true, language);
      if (image !== undefined) assert.equal(parseReference(image).kind, "registry");
    }
  }
});

Deno.test("a version is found by its name or the beginning of it", () => {
  assert.equal(languageVersion("python", "3.11").suite, "bookworm");
  assert.equal(languageVersion("python", "3").version, "3.13");
  assert.equal(languageVersion("node", "22").image, "node:22-slim");
  assert.deepEqual(splitLanguage("node@20"), { name: "node", version: "20" });
  assert.deepEqual(splitLanguage("node"), { name: "node", version: undefined });
});

Deno.test("a version that there is not is refused with those that there are", () => {
  for (const version of ["3.1", "2", "", "3.13.5", "latest"]) {
    assert.throws(() => languageVersion("python", version), {
      code: "invalid-input",
      message: /^Cannot use python in the version "/,
      remedy: /python@3\.13, python@3\.11,/,
    });
  }
  assert.throws(() => languageVersion("deno", "2"), { message: /the Deno that runs cloudlet/ });
  assert.throws(() => languageVersion("command", "2"), { message: /a command has no version/ });
  assert.throws(() => languageVersion("constructor", "2"), { code: "invalid-input" });
});
