import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError, type ErrorCode } from "../base/errors.ts";
import { Kvm } from "./kvm/kvm.ts";
import { MAX_MEMORY, MIB } from "./layout.ts";
import { saveSnapshot, Snapshot } from "./snapshot/snapshot.ts";
import { EXIT, hasKvm, RESET, tinyKernel } from "./vcpu/tiny_guest_testing.ts";
import { Vm } from "./vm.ts";
import type { VmConfig } from "./vm_config.ts";

const ignore = !hasKvm();

/** An error with a kind, a message and a remedy. */
function is(code: ErrorCode, message: RegExp, remedy: RegExp = /./): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof CloudletError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.match(error.remedy ?? "", remedy);
    return true;
  };
}

Deno.test("a host without KVM, without permission or with something else there is told so", async () => {
  const directory = await Deno.makeTempDir();
  try {
    assert.throws(
      () => Kvm.open(join(directory, "kvm")),
      is("host", /Cannot use KVM: .*kvm: ENOENT/, /kvm_intel, kvm_amd or kvm_pvm/),
    );
    assert.throws(() => Kvm.open("/dev/null"), is("host", /another kind of device/, /^$/));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test({
  name: "a user without permission is told how to get it",
  ignore: Deno.uid() !== 0, // only root can become somebody else
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      await Deno.chmod(directory, 0o777);
      const device = join(directory, "kvm");
      await Deno.writeFile(device, new Uint8Array(0), { mode: 0o600 });
      const module = JSON.stringify(new URL("./kvm/kvm.ts", import.meta.url).href);
      const program = `const { Kvm } = await import(${module});
        try { Kvm.open(${JSON.stringify(device)}); } catch (error) {
          console.log(JSON.stringify([error.code, error.message, error.remedy]));
        }`;
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["eval", "--no-config", "--no-lock", program],
        env: { DENO_DIR: join(directory, "deno"), HOME: directory },
        cwd: directory,
        uid: 65534,
      }).output();
      const text = new TextDecoder().decode(stdout);
      assert.notEqual(text, "", new TextDecoder().decode(stderr));
      const [code, message, remedy] = JSON.parse(text);
      assert.equal(code, "host");
      assert.match(message, /Cannot use KVM: .*EACCES/);
      assert.match(remedy, /join the group kvm/);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

/** A VM that cannot be made; nothing of the attempt may be left. */
async function refused(
  config: Partial<VmConfig> & Pick<VmConfig, "kernel">,
  check: (error: unknown) => boolean,
): Promise<void> {
  await assert.rejects(() => Vm.create(config), check);
}

/** Descriptors of VMs; other tests of this process, which may run meanwhile, open other kinds. */
function openFds(): number {
  return [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
    try {
      return /kvm|memfd|event/.test(Deno.readLinkSync(`/proc/self/fd/${name}`));
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

Deno.test({
  name: "a VM that cannot be made says why, and leaves no descriptor",
  ignore,
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      const script = join(directory, "script");
      await Deno.writeTextFile(script, "#!/bin/sh\n".repeat(100));
      const kernel = script;
      await refused(
        { kernel },
        is("invalid-input", /neither an ELF file nor a bzImage/, /vmlinux/),
      );
      const before = openFds();
      await refused({ kernel }, is("invalid-input", /neither an ELF file nor a bzImage/));
      await refused({ kernel: join(directory, "none") }, is("not-found", /no such file/));
      await refused({ kernel, vcpus: 0 }, is("invalid-input", /0 vCPUs/, /ask for 1 to \d+ vCPUs/));
      await refused({ kernel, vcpus: 1000 }, is("invalid-input", /1000 vCPUs/, /ask for 1 to/));
      await refused({ kernel, vcpus: 1.5 }, is("invalid-input", /1.5 vCPUs/));
      await refused({ kernel, memory: 8 * MIB }, is("invalid-input", /8 MiB .* too little/, /32/));
      await refused({ kernel, memory: 2 * MAX_MEMORY }, is("invalid-input", /too much/));
      await refused(
        { kernel, memory: 64 * MIB + 1 },
        is("invalid-input", /no whole pages/, /4096/),
      );
      // The runtime ends the thread of a worker, with its descriptors, a moment after the worker.
      for (let i = 0; i < 400 && openFds() > before; i++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      assert.ok(openFds() <= before, `${openFds()} descriptors, not ${before}`);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

/** A directory with a kernel that consists of the code. */
async function withKernel(
  code: Uint8Array,
  test: (config: VmConfig, directory: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    const kernel = join(directory, "kernel");
    await Deno.writeFile(kernel, tinyKernel(code));
    await test({ kernel, memory: 32 * MIB }, directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const exits = (vm: Vm) => vm.exits[0]!.io;

/** Whether the guest goes on: it leaves KVM_RUN all the time. */
async function runs(vm: Vm, milliseconds = 60_000): Promise<boolean> {
  const before = exits(vm);
  for (const end = performance.now() + milliseconds; performance.now() < end;) {
    if (exits(vm) > before) return true;
    await new Promise((next) => setTimeout(next, 1));
  }
  return false;
}

Deno.test({
  name: "resume() overrules a pause() that waits, and the guest runs",
  ignore,
  fn: () =>
    withKernel(EXIT, async (config) => {
      await using vm = await Vm.create(config);
      vm.resume();
      assert(await runs(vm));
      for (let i = 0; i < 20; i++) {
        const look = vm.idle(); // the pause has to wait for it
        const pause = vm.pause();
        vm.resume();
        await assert.rejects(pause, is("conflict", /it was resumed meanwhile/, /^$/));
        assert.equal(await look, false);
        assert(await runs(vm), "it stands still");
      }
      const pauses = [vm.idle(), vm.pause(), vm.pause()];
      await Promise.all(pauses);
      assert.equal(await runs(vm, 20), false);
      assert.equal(await vm.idle(), undefined);
    }),
});

Deno.test({
  name: "what is saved goes on in another VM, and a save that a resume overtakes is none",
  ignore,
  fn: () =>
    withKernel(EXIT, async (config, directory) => {
      await using vm = await Vm.create({ ...config, devices: { rng: true } });
      vm.resume();
      assert(await runs(vm));
      await assert.rejects(() => vm.save(), is("conflict", /it is not paused/, /^$/));
      await vm.pause();
      // Looked at from the start: it may be refused before the VM stands still again.
      const overtaken = assert.rejects(vm.save(), is("conflict", /not paused any more/, /^$/));
      await assert.rejects(() => vm.save(), is("conflict", /it is not paused/, /^$/));
      vm.resume();
      await vm.pause(); // it stands still again, but it has run
      await overtaken;
      const saved = join(directory, "saved");
      await Deno.mkdir(saved);
      await saveSnapshot(vm, saved, {});
      vm.resume();
      assert(await runs(vm));

      using snapshot = await Snapshot.open(saved, {});
      const { memory } = config;
      await using clone = await Vm.shell({ memory: memory!, devices: { rng: true } });
      snapshot.restore(clone);
      assert.throws(() => snapshot.restore(clone), is("conflict", /or was restored/, /^$/));
      clone.resume();
      assert(await runs(clone));
      await clone.stop();
      assert.equal((await clone.outcome).kind, "stopped");
      await clone.pause();
      clone.resume();
      await assert.rejects(() => clone.save(), is("conflict", /it is not paused/, /^$/));
    }),
});

Deno.test({
  name: "how a guest ends is told: by a reset, or by halting for good without a word",
  ignore,
  fn: async () => {
    for (const [code, kind] of [[RESET, "reset"], [Uint8Array.of(0xf4), "halted"]] as const) {
      await withKernel(code, async (config) => {
        await using vm = await Vm.create(config);
        vm.resume();
        assert.deepEqual(await vm.outcome, { kind });
        await vm.writeSerial(Uint8Array.of(1)); // nobody takes it, and nobody waits
      });
    }
  },
});
