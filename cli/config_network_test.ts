import assert from "node:assert/strict";
import type { SchemaProblem } from "../base/schema_problems.ts";
import { networkOf, parseSecret } from "./config_network.ts";

const NONE = { allow: [], deny: [], publish: [], secrets: {} };

/** Runs a test with a variable of this process. */
function withVariable(name: string, value: string, test: () => void): void {
  Deno.env.set(name, value);
  try {
    test();
  } finally {
    Deno.env.delete(name);
  }
}

Deno.test("a secret is named with its hosts, and its value is this process's variable", () => {
  withVariable("CLOUDLET_TEST_KEY", "0123456789", () => {
    assert.deepEqual(parseSecret("CLOUDLET_TEST_KEY@a.example,*.b.example"), [
      "CLOUDLET_TEST_KEY",
      { value: "0123456789", hosts: ["a.example", "*.b.example"] },
    ]);
  });
  assert.throws(() => parseSecret("CLOUDLET_TEST_KEY@a.example"), /the variable is not set/);
  for (const text of ["KEY", "KEY@", "@a.example", "1@a.example", "KEY=value@a.example"]) {
    assert.throws(() => parseSecret(text), /who gets the secret/, text);
  }
});

Deno.test("a config without a network gives none, and one with a secret alone gives one", () => {
  const problems: SchemaProblem[] = [];
  assert.equal(networkOf(NONE, problems), undefined);
  const secrets = { KEY: { env: "CLOUDLET_TEST_KEY", hosts: ["a.example"] } };
  withVariable("CLOUDLET_TEST_KEY", "0123456789", () => {
    assert.deepEqual(networkOf({ ...NONE, secrets }, problems)?.secrets, {
      KEY: { value: "0123456789", hosts: ["a.example"] },
    });
  });
  assert.deepEqual(problems, []);
  networkOf({ ...NONE, secrets }, problems);
  assert.deepEqual(problems.map(({ path }) => path)[0], ["network", "secrets", "KEY", "env"]);
});
