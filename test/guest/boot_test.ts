import assert from "node:assert/strict";
import type { BootOptions } from "../../cli/boot.ts";
import { hasKvm, testBoot } from "./fixtures.ts";

const ignore = !hasKvm();
const MAIN = new URL("./fixtures/boot_main.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;

/** Runs `cloudlet boot` as a process. */
async function run(options: Partial<BootOptions>, stdin = "") {
  const all = { ...await testBoot(), ...options };
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", "--config", CONFIG, MAIN, JSON.stringify(all)],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  if (options.exec !== undefined) await writer.close();
  const { code, stdout, stderr } = await child.output();
  if (options.exec === undefined) await writer.close().catch(() => {}); // it has ended already
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

Deno.test({
  name: "boot --exec prints the command's output alone, and exits with its code",
  ignore,
  async fn() {
    const { code, stdout, stderr } = await run({
      exec: "uname -s; grep -c MemTotal /proc/meminfo; exit 3",
      timeline: true,
    });
    assert.equal(stdout, "Linux\n1\n", stderr);
    assert.equal(code, 3);
    assert.match(stderr, /^VMM set-up +\d+ ms\nkernel +\d+ ms\nuser space +\d+ ms\n$/);
  },
});

Deno.test({
  name: "boot types standard input at the shell, and ends when the shell does",
  ignore,
  async fn() {
    const { code, stdout, stderr } = await run({}, "echo answer-$((40 + 2))\nexit\n");
    assert.match(stdout, /answer-42\r\n/, stderr);
    assert.equal(code, 0);
  },
});

Deno.test({
  name: "boot gives up after the timeout with the exit code of timeout(1)",
  ignore,
  async fn() {
    const { code, stdout, stderr } = await run({ exec: "echo never", timeoutSeconds: 0.5 });
    assert.equal(code, 124, stderr);
    assert.equal(stdout, "");
  },
});
