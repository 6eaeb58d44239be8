import assert from "node:assert/strict";
import { checkConfig, configFragments, parseConfig } from "./config.ts";

Deno.test("a fragment's options are read, set and unset", () => {
  const options = parseConfig("CONFIG_A=y\n# CONFIG_B is not set\n# a remark\nCONFIG_C=16\n");
  assert.deepEqual([...options], [["CONFIG_A", "y"], ["CONFIG_B", "n"], ["CONFIG_C", "16"]]);
});

Deno.test("an option that kconfig dropped is reported by name", () => {
  checkConfig("CONFIG_A=y\n", ["CONFIG_A=y\n# CONFIG_B is not set\n"]);
  assert.throws(() => checkConfig("CONFIG_A=y\n", ["CONFIG_A=y\nCONFIG_DAX=y\n"]), {
    code: "internal",
    message: "Cannot configure the kernel: CONFIG_DAX=y became n",
  });
});

Deno.test("a later fragment wins over an earlier one", () => {
  checkConfig("CONFIG_A=y\n", ["CONFIG_A=n\n", "CONFIG_A=y\n"]);
});

Deno.test("the SMP variant differs from the uniprocessor one", () => {
  const up = parseConfig(configFragments("up").join("\n"));
  const smp = parseConfig(configFragments("smp").join("\n"));
  assert.equal(up.get("CONFIG_SMP"), undefined);
  assert.equal(smp.get("CONFIG_SMP"), "y");
});
