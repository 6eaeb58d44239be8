/**
 * The main job: each example through `cloudlet run` in a microVM prints, byte for byte, what the
 * same program prints on this host.
 *
 * CLOUDLET_TEST_EXAMPLES names others than python and bash, separated by commas, or `all`: rust takes
 * minutes on a software-only host.
 */
import assert from "node:assert/strict";
import { examples, runByHand, runsHere } from "../examples.ts";
import { checkoutPath } from "../paths.ts";
import { hasKvm } from "./fixtures.ts";

const wanted = (Deno.env.get("CLOUDLET_TEST_EXAMPLES") ?? "python,bash").split(",");
const all = examples();
for (const name of wanted) {
  assert.ok(name === "all" || all.some((example) => example.name === name), `no example ${name}`);
}

for (const example of all) {
  if (!wanted.includes("all") && !wanted.includes(example.name)) continue;
  Deno.test({
    name: `cloudlet run: the example ${example.name} prints in a microVM what it prints here`,
    ignore: !hasKvm() || !await runsHere(example),
    async fn() {
      const expected = await runByHand(example);
      assert.ok(expected.stdout.length > 0, new TextDecoder().decode(expected.stderr));
      const start = performance.now();
      const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), "run", example.config],
        stdin: "null",
      }).output();
      const said = new TextDecoder().decode(stderr);
      assert.deepEqual(new Uint8Array(stdout), new Uint8Array(expected.stdout), said);
      assert.equal(code, expected.code, said);
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      console.log(`${example.name}: ${stdout.length} bytes equal, ${seconds} s`);
    },
  });
}
