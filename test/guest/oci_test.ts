/** Images of a real registry, run by the command line in real microVMs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../../builder/archive/fixtures_test.ts";
import { hasTools, makeLayout, startRegistry } from "../../builder/oci/fixtures_test.ts";
import { oracle, run } from "../oracle.ts";
import { cloudlet, ownCache } from "../command_line.ts";
import { hasKvm } from "./fixtures.ts";

/** Two more boots are only made when they are asked for. */
const SHORT = Deno.env.get("CLOUDLET_TEST_OCI") !== "all";

/** Says as whom and where it runs, what it sees, and what it was given. */
const PROGRAM = `#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
  char directory[99];
  printf("%d:%d %s %s %s %s", getuid(), getgid(), getcwd(directory, 99), getenv("HOME"),
         getenv("COLOUR"), getenv("LD_LIBRARY_PATH") ? "libraries" : "clean");
  for (int i = 1; i < count; i++) printf(" %s", words[i]);
  printf(" %d\\n", access("/bin/sh", F_OK));
  return 7;
}
`;

Deno.test({
  name: "an image with another C library and no shell runs as it says, and others can be changed",
  ignore: !hasKvm(),
  async fn(t) {
    if (!(await hasTools()) || !(await oracle("musl-gcc"))) return;
    using directory = testDirectory();
    const { path } = directory;
    const cache = await ownCache(path);
    await using registry = await startRegistry(path);
    const { host } = registry;
    const push = (layout: string, name: string) =>
      run("skopeo", [
        ...["copy", "--insecure-policy", "--dest-tls-verify=false"],
        ...[`oci:${layout}:t`, `docker://${host}/${name}`],
      ], { cwd: path });
    const umociConfig = (layout: string, ...settings: string[]) =>
      run("umoci", ["config", "--image", `${layout}:t`, ...settings], { cwd: path });

    await t.step("musl, its entry point, user, directory and environment", async () => {
      await Deno.writeTextFile(join(path, "program.c"), PROGRAM);
      await run("musl-gcc", ["-o", "program", "program.c"], { cwd: path });
      await makeLayout(path, "musl", [
        `mkdir -p lib bin etc srv/work; cp ../../program bin/
         cp -L /lib/ld-musl-*.so.1 lib/; echo app:x:1234:1235::/srv:/bin/false >etc/passwd`,
      ]);
      await umociConfig(
        "musl",
        ...["--config.entrypoint", "/bin/program", "--config.cmd", "default"],
        ...["--config.env", "COLOUR=red", "--config.workingdir", "/srv/work"],
        ...["--config.user", "app"],
      );
      await push("musl", "musl:1");
      const { code, stdout, stderr } = await cloudlet(
        cache,
        ...["run", "--no-snapshot", "--image", `${host}/musl:1`, "--", "one", "two words"],
      );
      assert.equal(stdout, "1234:1235 /srv/work /srv red clean one two words -1\n", stderr);
      assert.equal(code, 7);
    });

    await t.step({
      name: "files and commands make another image, which is kept",
      ignore: SHORT,
      fn,
    });
    async function fn(): Promise<void> {
      await makeLayout(path, "shell", [
        `mkdir -p bin etc; cp /bin/busybox bin/busybox; echo gone >etc/gone
         for name in sh cat ls rm mkdir cp; do ln -s busybox bin/$name; done`,
      ]);
      await umociConfig("shell", "--config.env", "COLOUR=blue");
      await Deno.writeTextFile(join(path, "conf"), "of the host\n");
      await Deno.writeTextFile(
        join(path, "config.toml"),
        `[image]
from = "oci:shell"
files = { "/etc/conf" = "conf" }
run = ["rm /etc/gone; mkdir /opt", "cp /etc/conf /opt/$COLOUR"]
[run]
args = ["sh", "-c", "cat /opt/blue; ls /etc"]
`,
      );
      const command = ["run", "--no-snapshot", join(path, "config.toml")];
      const { code, stdout, stderr } = await cloudlet(cache, ...command);
      // The hosts file is of this microVM: the image has none.
      assert.equal(stdout, "of the host\nconf\nhosts\n", stderr);
      assert.equal(code, 0);
      assert.match(stderr, /Run the image's commands: done/);
      const layers = await Array.fromAsync(Deno.readDir(join(cache, "cloudlet/layers")));
      assert.equal(layers.filter(({ isDirectory }) => isDirectory).length, 1);
    }
  },
});
