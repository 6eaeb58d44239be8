import assert from "node:assert/strict";
import { compile, hasKvm, littleMemory, runScript } from "./fixtures.ts";

const ignore = !hasKvm();

Deno.test({
  name: "a command's bytes and exit code come out as they are, and nothing else",
  ignore,
  async fn() {
    const result = await runScript("printf 'a\\nb\\r\\n\\001\\t'; echo err >&2; exit 42");
    assert.equal(result.output, "a\nb\r\n\u0001\terr\n", result.console);
    assert.equal(result.code, 42);
  },
});

Deno.test({
  name: "poweroff -f ends the VM as switched off",
  ignore,
  async fn() {
    const result = await runScript("poweroff -f; sleep 1000", { untilEnd: true });
    assert.deepEqual(result.outcome, { kind: "poweroff" }, result.console);
  },
});

Deno.test({
  name: "reboot -f ends the VM as reset",
  ignore,
  async fn() {
    const result = await runScript("reboot -f; sleep 1000", { untilEnd: true });
    assert.deepEqual(result.outcome, { kind: "reset" }, result.console);
  },
});

Deno.test({
  name: "a kernel panic ends the VM with the kernel's message",
  ignore,
  async fn() {
    const result = await runScript("kill -9 1; echo c >/proc/sysrq-trigger; exit 0", {
      cmdline: "init=/nonexistent rdinit=/nonexistent",
      untilEnd: true,
    });
    assert.equal(result.outcome.kind, "panic", result.console);
    assert.match(
      result.outcome.kind === "panic" ? result.outcome.message : "",
      /Requested init \/nonexistent failed|No working init found|Unable to mount root fs/,
    );
  },
});

Deno.test({
  name: "a triple fault ends the VM as one",
  ignore,
  async fn() {
    // reboot=t: the kernel loads an empty interrupt table and executes int3.
    const result = await runScript("reboot -f; sleep 1000", {
      cmdline: "reboot=t",
      untilEnd: true,
    });
    assert.equal(result.outcome.kind, "triple-fault", result.console);
  },
});

Deno.test({
  name: "a VM whose guest spins is paused, goes on and is stopped",
  ignore,
  async fn() {
    let done: Promise<void> | undefined;
    const result = await runScript("while :; do :; done", {
      untilEnd: true,
      onBegin(vm) {
        done = (async () => {
          for (let i = 0; i < 20; i++) {
            await vm.pause();
            const before = vm.exits;
            await new Promise((resolve) => setTimeout(resolve, 20));
            assert.deepEqual(vm.exits, before, "a paused vCPU left the kernel");
            vm.resume();
          }
          await vm.stop();
        })();
      },
    });
    await done;
    assert.deepEqual(result.outcome, { kind: "stopped" });
  },
});

Deno.test({
  name: "a command that uses up the memory is killed, and the kernel's message says why",
  ignore,
  async fn() {
    const hog = await compile("memory_hog.c");
    const result = await runScript("/cloudlet/hog", {
      programs: { hog },
      memory: littleMemory(),
      untilEnd: true,
    });
    assert.equal(result.code, 137, result.console);
    assert.match(result.outOfMemory.join("\n"), /Out of memory: Killed process \d+ \(hog\)/);
    assert.deepEqual(result.outcome, { kind: "poweroff" });
  },
});
