import assert from "node:assert/strict";
import { join } from "node:path";

const MODULE = new URL("./scratch.ts", import.meta.url).href;

function run(program: string, args: readonly string[], runtime: string) {
  return new Deno.Command(program, { args: [...args], env: { XDG_RUNTIME_DIR: runtime } }).output();
}

const NAMESPACE = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];

async function namespaces(): Promise<boolean> {
  try {
    return (await run("unshare", [...NAMESPACE, "true"], "/")).success;
  } catch {
    return false;
  }
}

Deno.test({
  name: "a VM's sockets are not swept from another PID namespace, and are when its process is dead",
  ignore: !await namespaces(),
  async fn() {
    const runtime = await Deno.makeTempDir();
    const root = join(runtime, "cloudlet");
    const sweep = [
      ...["eval", "--quiet"],
      `import { sweepScratch } from ${JSON.stringify(MODULE)}; sweepScratch();`,
    ];
    const owner = new Deno.Command(Deno.execPath(), {
      args: [
        ...["eval", "--quiet"],
        `import { makeScratch } from ${JSON.stringify(MODULE)};
        const { path } = makeScratch();
        Deno.writeTextFileSync(path + "/vsock", "");
        console.log(path);
        setInterval(() => {}, 1000);`,
      ],
      env: { XDG_RUNTIME_DIR: runtime },
      stdout: "piped",
    }).spawn();
    try {
      const { value } = await owner.stdout.getReader().read();
      const path = new TextDecoder().decode(value).trim();
      assert.equal(join(root, path.slice(root.length + 1)), path);
      const other = await run("unshare", [...NAMESPACE, Deno.execPath(), ...sweep], runtime);
      assert.ok(other.success, new TextDecoder().decode(other.stderr));
      assert.equal((await Deno.stat(join(path, "vsock"))).isFile, true);
      // Of an earlier version, which may still run: it had a process id in its name.
      await Deno.mkdir(join(root, "vm-999999999-0123456789ab"));
      owner.kill("SIGKILL");
      await owner.status;
      await run(Deno.execPath(), sweep, runtime);
      const left = Array.from(Deno.readDirSync(root), ({ name }) => name);
      assert.deepEqual(left, ["vm-999999999-0123456789ab"]);
    } finally {
      await Deno.remove(runtime, { recursive: true });
    }
  },
});
