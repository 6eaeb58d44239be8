import assert from "node:assert/strict";
import { join } from "node:path";
import { runInRoot } from "./sandbox.ts";

const BUSYBOX = ["/bin/busybox", "/usr/bin/busybox"];

async function withRoot(
  test: (root: string) => Promise<void>,
  name = "root",
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  const root = join(directory, name);
  try {
    await Deno.mkdir(join(root, "bin"), { recursive: true });
    const busybox = BUSYBOX.find((path) => {
      try {
        return Deno.statSync(path).isFile;
      } catch {
        return false;
      }
    });
    assert.ok(busybox, "these tests need a static busybox (Debian package busybox-static)");
    await Deno.copyFile(busybox, join(root, "bin/busybox"));
    await Deno.chmod(join(root, "bin/busybox"), 0o755);
    await test(root);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const sh = (script: string) => ["/bin/busybox", "sh", "-c", script];

Deno.test("a program in a root sees only the root and its binds, and its exit code comes back", async () => {
  await withRoot(async (root) => {
    const bound = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
    try {
      let output = "";
      const code = await runInRoot({
        root,
        command: sh("/bin/busybox ls /; echo made >/work/file; echo $GREETING; exit 7"),
        env: { GREETING: "hello" },
        binds: { "/work": bound },
        onOutput: (chunk) => void (output += new TextDecoder().decode(chunk)),
      });
      assert.equal(code, 7);
      assert.deepEqual(output.split("\n"), ["bin", "dev", "proc", "tmp", "work", "hello", ""]);
      assert.equal(await Deno.readTextFile(join(bound, "file")), "made\n");
    } finally {
      await Deno.remove(bound, { recursive: true });
    }
  });
});

Deno.test("paths may hold spaces and whatever else a shell would read", async () => {
  const name = "a $HOME 'b\" * ";
  await withRoot(async (root) => {
    const bound = join(root, "..", `${name} bound`);
    await Deno.mkdir(bound);
    let output = "";
    const code = await runInRoot({
      root,
      command: sh("/bin/busybox ls / && echo made >'/a b/file'"),
      binds: { "/a b": bound },
      onOutput: (chunk) => void (output += new TextDecoder().decode(chunk)),
    });
    assert.equal(code, 0, output);
    assert.deepEqual(output.split("\n"), ["a b", "bin", "dev", "proc", "tmp", ""]);
    assert.equal(await Deno.readTextFile(join(bound, "file")), "made\n");
  }, name);
});

/** Processes whose command line has `marker` in it. */
function processesWith(marker: string): number {
  let count = 0;
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (Deno.readTextFileSync(`/proc/${name}/cmdline`).includes(marker)) count++;
    } catch {
      // ended meanwhile
    }
  }
  return count;
}

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (what()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`it never became true: ${what}`);
}

Deno.test("cancelling ends the program and all that it started", async () => {
  await withRoot(async (root) => {
    const controller = new AbortController();
    const marker = "7654321";
    const running = runInRoot({
      root,
      command: sh(
        `/bin/busybox setsid /bin/busybox sleep ${marker} & /bin/busybox sleep ${marker}`,
      ),
      signal: controller.signal,
    });
    await until(() => processesWith(marker) >= 3);
    controller.abort();
    await assert.rejects(running, { code: "cancelled" });
    await until(() => processesWith(marker) === 0);
  });
});

Deno.test("a killed cloudlet takes the program with it", async () => {
  await withRoot(async (root) => {
    const marker = "7654322";
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        "--quiet",
        `
        import { runInRoot } from ${JSON.stringify(new URL("./sandbox.ts", import.meta.url).href)};
        await runInRoot({
          root: ${JSON.stringify(root)},
          command: ["/bin/busybox", "sleep", String(${marker} + 0)],
        });`,
      ],
    }).spawn();
    const sleeping = () => processesWith(`sleep\0${marker}`);
    await until(() => sleeping() > 0);
    child.kill("SIGKILL");
    await child.status;
    await until(() => sleeping() === 0);
  });
});
