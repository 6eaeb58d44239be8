import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { saveSnapshot, Snapshot } from "../../vmm/snapshot/snapshot.ts";
import { Vm } from "../../vmm/vm.ts";
import type { ShellConfig } from "../../vmm/vm_config.ts";
import { hasKvm, testBoot, testKernel } from "./fixtures.ts";

const MIB = 1024 * 1024;
/** Milliseconds after which a guest that says nothing has hung. */
const LONG = 240_000;
/** What the prompts of BusyBox's shell end in: "/root # ", or "~ # " from 1.37 on. */
const PROMPT = " # ";
const REQUIRES = { guest: "a shell on the console" };

/** A console that can be waited for. */
class Console {
  text = "";
  readonly #waiting = new Set<() => void>();

  readonly output = (chunk: Uint8Array): void => {
    this.text += new TextDecoder().decode(chunk);
    for (const look of this.#waiting) look();
  };

  /** Fails with the console after a time that is long for every host. */
  async until(text: string): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const look = () => this.text.includes(text) && resolve();
    const timer = setTimeout(
      () => reject(new Error(`no "${text}" on the console:\n${this.text.slice(-4000)}`)),
      LONG,
    );
    this.#waiting.add(look);
    look();
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(look);
    }
  }
}

function config(console: Console): ShellConfig {
  return { memory: 128 * MIB, devices: { rng: true }, serialOutput: console.output };
}

function type(vm: Vm, line: string): void {
  vm.writeSerial(new TextEncoder().encode(line + "\n"));
}

async function reason(directory: string, whole = false): Promise<string> {
  try {
    using _snapshot = await Snapshot.open(directory, REQUIRES, whole);
    return "";
  } catch (error) {
    assert.ok(error instanceof CloudletError, String(error));
    return error.message;
  }
}

async function damage(path: string, change: (file: Deno.FsFile) => Promise<unknown>) {
  using file = await Deno.open(path, { read: true, write: true });
  await change(file);
}

async function copy(from: string, to: string): Promise<string> {
  await Deno.mkdir(to);
  const { success } = await new Deno.Command("cp", {
    args: ["--sparse=always", join(from, "memory"), join(from, "state"), to],
  }).output();
  assert.ok(success);
  return to;
}

Deno.test({
  name: "a saved guest goes on in other VMs as often as one likes, and damage is refused",
  ignore: !hasKvm(),
  async fn(t) {
    const root = await Deno.makeTempDir();
    const saved = join(root, "saved");
    await Deno.mkdir(saved);
    try {
      const first = new Console();
      {
        await using vm = await Vm.create({
          ...config(first),
          ...await testBoot(),
        });
        vm.resume();
        await first.until(PROMPT);
        type(vm, "kept=in-memory; echo re''ady");
        await first.until("ready");
        await vm.pause();
        await saveSnapshot(vm, saved, REQUIRES);
      }

      await t.step("its memory file holds the pages that are in use and no others", async () => {
        const { size, blocks } = await Deno.stat(join(saved, "memory"));
        assert.equal(size, 128 * MIB);
        const most = (testKernel() === "debian" ? 80 : 64) * MIB; // a larger kernel uses more
        assert.ok(blocks! * 512 < most, `${blocks! * 512} bytes on the disk`);
        assert.equal(await reason(saved, true), "");
      });

      await t.step("two clones go on, each for itself", async () => {
        const consoles = [new Console(), new Console()];
        using snapshot = await Snapshot.open(saved, REQUIRES);
        await using one = await Vm.shell(config(consoles[0]!));
        await using two = await Vm.shell(config(consoles[1]!));
        const clones = [one, two];
        for (const vm of clones) snapshot.restore(vm);
        await Deno.rename(saved, join(root, "elsewhere")); // what is mapped stays
        for (const [i, vm] of clones.entries()) {
          vm.resume();
          type(vm, `echo $kept ${i}; own=${i}`);
        }
        for (const [i, console] of consoles.entries()) await console.until(`in-memory ${i}`);
        for (const [i, vm] of clones.entries()) type(vm, `echo o''wn $own; x=${i}`);
        for (const [i, console] of consoles.entries()) await console.until(`own ${i}`);
        await Deno.rename(join(root, "elsewhere"), saved);
        assert.equal(await reason(saved, true), "", "what a clone writes stays with it");
      });

      await t.step("a VM of another size is refused", async () => {
        using snapshot = await Snapshot.open(saved, REQUIRES);
        await using vm = await Vm.shell({ ...config(new Console()), memory: 64 * MIB });
        assert.throws(() => snapshot.restore(vm), /bytes of memory/);
      });

      await t.step("other requirements are refused by their name", async () => {
        await assert.rejects(() => Snapshot.open(saved, { guest: "x" }), /it is for another guest/);
      });

      await t.step("a faithful copy is taken, a damaged one refused", async () => {
        const path = await copy(saved, join(root, "copy"));
        assert.equal(await reason(path), "");
        await damage(join(path, "memory"), async (file) => {
          await file.seek(MIB, Deno.SeekMode.Start); // the kernel's text
          const byte = new Uint8Array(1);
          await file.read(byte);
          byte[0]! ^= 1;
          await file.seek(MIB, Deno.SeekMode.Start);
          await file.write(byte);
        });
        assert.match(await reason(path), /checksum of its memory file/);
        await damage(join(path, "memory"), (file) => file.truncate(64 * MIB));
        assert.match(await reason(path), /memory file is truncated/);
        await Deno.remove(join(path, "memory"));
        assert.match(await reason(path), /memory file cannot be opened/);
        await damage(join(path, "state"), (file) => file.truncate(1000));
        assert.match(await reason(path), /state file is truncated/);
        await Deno.remove(join(path, "state"));
        assert.match(await reason(path), /state file cannot be opened/);
      });
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});
