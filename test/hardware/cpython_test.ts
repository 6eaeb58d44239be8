/**
 * CPython's tests in a guest. CLOUDLET_TEST_CPYTHON names the modules, separated by commas;
 * `deno task test:hardware cpython:test_os` sets it, since processes start fast there.
 */
import assert from "node:assert/strict";
import { run } from "../../api/library/run.ts";
import { hasKvm, testKernel } from "../guest/fixtures.ts";
import { CPYTHON_PACKAGES, testRunner } from "./cpython.ts";

const modules = Deno.env.get("CLOUDLET_TEST_CPYTHON")?.split(",") ?? [];
/** Seconds for one test of a module: emulated hardware is some fifty times slower. */
const LIMIT = 1800;

for (const name of modules) {
  Deno.test({
    name: `CPython's ${name} passes in a guest`,
    ignore: !hasKvm(),
    async fn() {
      const { stdout, stderr, exitCode } = await run({
        language: "python",
        code: testRunner([name], LIMIT),
        packages: CPYTHON_PACKAGES,
        kernel: testKernel(),
        memory: 1024,
      }).output();
      const text = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("\n");
      console.log(text.slice(-4000));
      assert.equal(exitCode, 0, text);
    },
  });
}
