/** Who may remove what is unfinished: the owner, and anybody once the owner is dead. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { sweepTemporary, temporaryIn } from "./files.ts";

const MODULE = new URL("./files.ts", import.meta.url).href;

/** Runs code in a PID namespace of its own, where no process of this one is seen. */
function inPidNamespace(code: string): Promise<Deno.CommandOutput> {
  return new Deno.Command("unshare", {
    args: [
      ...["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"],
      ...[Deno.execPath(), "eval", "--quiet", code],
    ],
  }).output();
}

async function namespaces(): Promise<boolean> {
  try {
    const args = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"];
    return (await new Deno.Command("unshare", { args }).output()).success;
  } catch {
    return false;
  }
}

Deno.test({
  name: "what is being made is not swept by a process in another PID namespace",
  ignore: !await namespaces(),
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      using temporary = temporaryIn(directory);
      await Deno.writeTextFile(temporary.path, "half");
      const sweep = `import { sweepTemporary } from ${JSON.stringify(MODULE)};
        sweepTemporary(${JSON.stringify(directory)});`;
      const { success, stderr } = await inPidNamespace(sweep);
      assert.ok(success, new TextDecoder().decode(stderr));
      assert.equal(await Deno.readTextFile(temporary.path), "half");
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test({
  name: "what a killed process of another PID namespace left is swept",
  ignore: !await namespaces(),
  async fn() {
    const directory = await Deno.makeTempDir();
    try {
      const leave = `import { temporaryIn } from ${JSON.stringify(MODULE)};
        const { path } = temporaryIn(${JSON.stringify(directory)});
        Deno.mkdirSync(path);
        Deno.writeTextFileSync(path + "/half", "written");
        Deno.kill(Deno.pid, "SIGKILL");`;
      // The namespace's first process ignores signals that it sends to itself; its child does not.
      await inPidNamespace(`await new Deno.Command(Deno.execPath(), {
        args: ["eval", "--quiet", ${JSON.stringify(leave)}],
      }).output();`);
      assert.equal([...Deno.readDirSync(directory)].length, 1);
      sweepTemporary(directory);
      assert.equal([...Deno.readDirSync(directory)].length, 0);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

Deno.test("of many that sweep and make at the same time, none loses what it makes", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const code = `import { sweepTemporary, temporaryIn } from ${JSON.stringify(MODULE)};
      for (let i = 0; i < 200; i++) {
        using temporary = temporaryIn(${JSON.stringify(directory)});
        Deno.writeTextFileSync(temporary.path, "x");
        sweepTemporary(${JSON.stringify(directory)});
        if (Deno.readTextFileSync(temporary.path) !== "x") throw new Error("it is gone");
      }`;
    const all = await Promise.all(
      Array.from(
        { length: 3 },
        () => new Deno.Command(Deno.execPath(), { args: ["eval", "--quiet", code] }).output(),
      ),
    );
    for (const { success, stderr } of all) assert.ok(success, new TextDecoder().decode(stderr));
    assert.deepEqual([...Deno.readDirSync(directory)], []);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("the name of a temporary is not one that another version takes for a process", () => {
  const directory = Deno.makeTempDirSync();
  try {
    using temporary = temporaryIn(directory);
    const name = temporary.path.slice(directory.length + 1).split("/")[0]!;
    assert.ok(Number.isNaN(Number.parseInt(name.slice(".tmp-".length))), name);
    assert.ok(!Deno.readDirSync(join(directory, name))[Symbol.iterator]().next().value);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
