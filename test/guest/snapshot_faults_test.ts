/** What can go wrong while a snapshot is saved: each time the next run has a right one, or none. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { hasKvm, testBoot } from "./fixtures.ts";

const SAVE = new URL("./fixtures/save_main.ts", import.meta.url).pathname;

class Saver implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  said = "";

  constructor(cache: string, args: readonly string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", SAVE, ...args],
      env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir() },
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Reads until it has said `text`, or to its end. */
  async until(text?: string): Promise<string> {
    while (text === undefined || !this.said.includes(text)) {
      const { done, value } = await this.#lines.read();
      if (done) return this.said;
      this.said += value;
    }
    return this.said;
  }

  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.kill();
    } catch {
      // it has ended
    }
    await this.#lines.cancel();
    await this.#child.status;
  }
}

async function succeeds(command: string, ...args: string[]): Promise<boolean> {
  return (await new Deno.Command(command, { args }).output()).success;
}

/** Deno's own cache must not move with XDG_CACHE_HOME. */
function denoDir(): string {
  return Deno.env.get("DENO_DIR") ??
    join(Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME")!, ".cache"), "deno");
}

/** Entries of the store, finished and not. */
function entries(cache: string): string[] {
  try {
    const names = Array.from(Deno.readDirSync(join(cache, "cloudlet/snapshots")), (e) => e.name);
    return names.filter((name) => !name.endsWith(".lock")).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

Deno.test({
  name: "saving survives a kill, two at once, and a disk that is full",
  ignore: !hasKvm(),
  async fn(t) {
    const root = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
    const { kernel, initramfs } = await testBoot();
    const args = [kernel, ...initramfs] as string[];
    try {
      const cache = join(root, "cache");
      await t.step(
        "a kill -9 while saving leaves nothing that is taken for a snapshot",
        async () => {
          await using saver = new Saver(cache, args);
          await saver.until("saving");
          saver.kill();
          await saver.status;
          assert.deepEqual(entries(cache).filter((name) => !name.startsWith(".")), []);
        },
      );

      await t.step("two processes at once make one, and both have it", async () => {
        await using one = new Saver(cache, args);
        await using two = new Saver(cache, args);
        const said = await Promise.all([one.until(), two.until()]);
        const results = said.map((text) => text.trim().split("\n").at(-1)!.split(" "));
        assert.deepEqual(results.map(([word]) => word).sort(), ["found", "made"], said.join("|"));
        assert.equal(results[0]![1], results[1]![1]);
        assert.equal(entries(cache).length, 1, "what the killed one left is gone as well");
      });

      await t.step({
        name: "a full disk is said, and leaves nothing",
        ignore: Deno.uid() !== 0, // mounts a small file system
        async fn() {
          const small = join(root, "small");
          await Deno.mkdir(small);
          assert(await succeeds("mount", "-t", "tmpfs", "-o", "size=4m", "none", small));
          try {
            await using saver = new Saver(small, args);
            const said = await saver.until();
            assert.equal((await saver.status).code, 1);
            assert.match(said, /no space/i);
            assert.deepEqual(entries(small), []);
          } finally {
            assert(await succeeds("umount", small));
          }
        },
      });
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});
