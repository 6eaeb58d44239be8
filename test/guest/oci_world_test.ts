/**
 * An image in which much is not as usual, and what docker makes of it: one boot, many runs.
 *
 * The judge of the exit codes is a shell; that of users, homes and PATH is docker's documented custom.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../../builder/archive/fixtures_test.ts";
import { hasTools, makeLayout } from "../../builder/oci/fixtures_test.ts";
import { run } from "../oracle.ts";
import { cloudlet, ownCache } from "../command_line.ts";
import { hasKvm } from "./fixtures.ts";

const STEP = `mkdir -p bin etc opt srv
  cp /bin/busybox bin/busybox; chmod 755 bin/busybox
  for name in sh cat echo env id ls pwd stat touch; do ln -s busybox bin/$name; done
  printf '#!/bin/sh\\nexec sh "$@"\\n' >bin/bash; chmod 755 bin/bash
  printf '#!/none/such\\n' >bin/orphan; chmod 755 bin/orphan
  echo root:x:0:0::/root:/bin/sh >etc/passwd
  printf 'root:x:0:\\ntape:x:26:root\\n' >etc/group
  echo /no/such/library.so >etc/ld.so.preload; mkfifo etc/hosts
  ln -s /nowhere/tmp tmp; ln -s /etc proc; echo file >dev; ln -s /opt/lost root
  ln -s /opt/usr usr`;

Deno.test({
  name: "an image of odd directories runs, as docker would run it",
  ignore: !hasKvm(),
  async fn(t) {
    if (!(await hasTools())) return;
    using directory = testDirectory();
    const { path } = directory;
    const cache = await ownCache(path);
    await makeLayout(path, "odd", [STEP]);
    await run("umoci", [
      ...["config", "--image", "odd:t", "--config.user", "1001:"],
      ...["--config.workingdir", "/srv/work/deep", "--config.env", "COLOUR=red"],
    ], { cwd: path });
    const image = ["--image", `oci:${join(path, "odd")}`];
    const command = (...words: string[]) => cloudlet(cache, "run", ...image, "--", ...words);
    const prints = async (expected: string, ...words: string[]) => {
      const { code, stdout, stderr } = await command(...words);
      assert.equal(stdout, expected, stderr);
      assert.equal(code, 0);
    };
    await t.step(
      "user, group and groups",
      () => prints("uid=1001 gid=0(root) groups=0(root)\n", "id"),
    );
    await t.step("environment, with docker's PATH and the home of an unknown user", async () => {
      const { stdout, stderr } = await command("env");
      assert.deepEqual(stdout.trim().split("\n").sort(), [
        "COLOUR=red",
        "HOME=/",
        "LANG=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      ], stderr);
    });
    await t.step(
      "the directory is made, and root's",
      () => prints("/srv/work/deep 0 0 755\n", "sh", "-c", "echo $(pwd) $(stat -c '%u %g %a' .)"),
    );
    await t.step("proc and dev are directories, the rest is the image's", () =>
      prints(
        "directory directory directory 'tmp' -> '/nowhere/tmp' 'root' -> '/opt/lost'\n",
        "sh",
        "-c",
        "cd /; echo $(stat -c %F proc dev sys) $(stat -c %N tmp root); cat /proc/self/stat >/dev/null",
      ));
    for (
      const [name, expected, words] of [
        ["none-such", 127, /"none-such": no directory of the PATH has it/],
        ["/bin/none", 127, /"\/bin\/none": there is no such file/],
        ["orphan", 127, /"orphan": its interpreter \/none\/such is not there/],
        ["/etc/passwd", 126, /"\/etc\/passwd": it is not executable/],
        ["/etc", 126, /"\/etc": it is a directory/],
      ] as const
    ) {
      await t.step(`${name} ends with ${expected}`, async () => {
        const { code, stdout, stderr } = await command(name);
        assert.equal(code, expected, stderr);
        assert.equal(stdout, "");
        assert.match(stderr, words);
      });
    }
    await t.step(
      "the agent works where the image has no /tmp for it",
      () => prints("1\n", "ls", "/usr/lib/cloudlet/workloads"),
    );
    await t.step({
      name: "so does a source of another user",
      ignore: Deno.env.get("CLOUDLET_TEST_OCI") !== "all", // another boot
      async fn() {
        const file = join(path, "source.sh");
        await Deno.writeTextFile(file, 'touch made; echo $(id -u) made; ls -d "$0"\n');
        const { code, stdout, stderr } = await cloudlet(cache, "run", ...image, file);
        assert.match(
          stdout,
          /^1001 made\n\/.*\/workloads\/\d+\/project\/[a-z]+\.sh\n$/,
          stderr + stdout,
        );
        assert.equal(code, 0);
      },
    });
  },
});
