import assert from "node:assert/strict";
import { join } from "node:path";

Deno.test({
  name: "files that their owner may not read are synced, and stay so",
  ignore: Deno.uid() !== 0, // root itself may read everything
  fn: async () => {
    const directory = await Deno.makeTempDir();
    const [uid, gid] = [65534, 65534];
    try {
      await Deno.chown(directory, uid, gid);
      const module = join(directory, "durable.ts");
      await Deno.copyFile(new URL("./durable.ts", import.meta.url), module);
      await Deno.chmod(module, 0o644);
      const code = `import { syncTree } from ${JSON.stringify(module)};
        Deno.mkdirSync("tree");
        Deno.writeTextFileSync("tree/secret", "x", { mode: 0o200 });
        await syncTree("tree");
        console.log((Deno.statSync("tree/secret").mode & 0o7777).toString(8));`;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["eval", "--quiet", "--no-config", code],
        cwd: directory,
        env: { DENO_DIR: join(directory, "deno"), DENO_NO_UPDATE_CHECK: "1", HOME: directory },
        uid,
        gid,
      });
      const { stdout, stderr } = await child.output();
      const text = new TextDecoder().decode(stdout);
      assert.equal(text, "200\n", new TextDecoder().decode(stderr));
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});
