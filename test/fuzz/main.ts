/**
 * `deno task fuzz [--seconds N] [--seed N] [NAME...]`: runs fuzzers for long, one after the other; all
 * of them when none is named.
 *
 * @module
 */
import { parseArgs } from "node:util";

const FILES = ["test/fuzz", "vmm/devices/fuzz_test.ts"];

const { values, positionals } = parseArgs({
  options: { seconds: { type: "string" }, seed: { type: "string" } },
  allowPositionals: true,
});
const seconds = values.seconds ?? Deno.env.get("CLOUDLET_FUZZ_SECONDS") ?? "30";
const seed = values.seed ?? Deno.env.get("CLOUDLET_FUZZ_SEED") ?? String(Date.now() % 2 ** 31);
if (!(Number(seconds) > 0) || !/^-?\d+$/.test(seed)) {
  console.error("usage: deno task fuzz [--seconds N] [--seed N] [NAME...]");
  Deno.exit(2);
}
const names = positionals.map((name) => name.replaceAll(/[^\w-]/g, "\\$&")).join("|") || ".*";
console.log(`fuzz: ${seconds} s each, seed ${seed}`);
const { code } = await new Deno.Command(Deno.execPath(), {
  args: ["test", "-A", `--filter=/^fuzz: (${names})$/`, ...FILES],
  cwd: new URL("../..", import.meta.url),
  env: { CLOUDLET_FUZZ_SECONDS: seconds, CLOUDLET_FUZZ_SEED: seed },
}).spawn().status;
Deno.exit(code);
