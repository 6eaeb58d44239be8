/** What `cloudlet image build` does when the world is against it, as a user meets it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withCache } from "./command_line.ts";
import { checkoutPath, denoDir } from "./paths.ts";

const MOD = checkoutPath("../mod.ts");

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function cloudlet(cache: string, args: readonly string[], env: Record<string, string> = {}) {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", MOD, ...args],
    env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir(), NO_COLOR: "1", ...env },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function ended(child: Deno.ChildProcess): Promise<Ended> {
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

/** Finished and unfinished things of a cache directory, without locks and names. */
async function leftIn(cache: string, kind: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(join(cache, "cloudlet", kind))) names.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.filter((name) => !name.endsWith(".lock") && !name.startsWith(".name-"));
}

Deno.test("an unknown image is an error that suggests the nearest name", async () => {
  await withCache(async (cache) => {
    const { code, stdout, stderr } = await ended(cloudlet(cache, ["image", "build", "pyton"]));
    assert.notEqual(code, 0);
    assert.equal(stdout, "");
    assert.match(stderr, /Cannot build the image "pyton"/);
    assert.match(stderr, /did you mean "python"/);
  });
});

Deno.test("a mirror that is down is an error that says so, and nothing is left", async () => {
  await withCache(async (cache) => {
    // a port of this machine where nobody listens any more
    const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    const env = { CLOUDLET_DEBIAN_MIRROR: `http://127.0.0.1:${port}/debian` };
    const { code, stdout, stderr } = await ended(cloudlet(cache, ["image", "build", "tiny"], env));
    assert.equal(code, 1);
    assert.equal(stdout, "");
    assert.match(stderr, /cloudlet: Cannot /);
    assert.match(stderr, new RegExp(`127\\.0\\.0\\.1:${port}`));
    assert.match(stderr, /-> /);
    assert.deepEqual(await leftIn(cache, "images"), []);
  });
});

Deno.test("two builds of one image at once both end well, and one does the work", async () => {
  await withCache(async (cache) => {
    const both = await Promise.all([
      ended(cloudlet(cache, ["image", "build", "tiny"])),
      ended(cloudlet(cache, ["image", "build", "tiny"])),
    ]);
    for (const { code, stderr } of both) assert.equal(code, 0, stderr);
    assert.equal(both[0].stdout, both[1].stdout);
    const wrote = both.filter(({ stderr }) => stderr.includes("Write the tiny image: done"));
    assert.equal(wrote.length, 1);
    assert.equal((await leftIn(cache, "images")).length, 1);
  });
});

Deno.test("Ctrl-C in the middle of a build ends it and leaves nothing half-made", async () => {
  await withCache(async (cache) => {
    const child = cloudlet(cache, ["image", "build", "python"]);
    let stderr = "";
    let interrupted = false;
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) {
      stderr += decoder.decode(chunk, { stream: true });
      if (!interrupted && stderr.includes("Write the python image ...")) {
        interrupted = true;
        child.kill("SIGINT");
      }
    }
    const { code } = await child.status;
    assert.ok(interrupted, stderr);
    assert.equal(code, 130, stderr);
    assert.deepEqual(await leftIn(cache, "images"), []);
    // and the next build works
    const next = await ended(cloudlet(cache, ["image", "build", "python"]));
    assert.equal(next.code, 0, next.stderr);
  });
});

Deno.test({
  name: "a full disk is an error that says what to do, and nothing half-made is left",
  ignore: Deno.uid() !== 0, // mounting a small file system is for root
  async fn() {
    await withCache(async (cache) => {
      const mount = new Deno.Command("mount", {
        args: ["-t", "tmpfs", "-o", "size=60m", "tmpfs", cache],
      });
      assert.ok((await mount.output()).success);
      try {
        const { code, stderr } = await ended(cloudlet(cache, ["image", "build", "python"]));
        assert.equal(code, 1);
        assert.match(stderr, /space/);
        assert.match(stderr, /XDG_CACHE_HOME/);
        assert.deepEqual(await leftIn(cache, "images"), []);
      } finally {
        await new Deno.Command("umount", { args: [cache] }).output();
      }
    });
  },
});
