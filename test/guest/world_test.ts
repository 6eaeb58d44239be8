/** What programs find in a guest besides its kernel, against a Debian system that mmdebstrap made. */
import assert from "node:assert/strict";
import { run } from "../../api/library/run.ts";
import { expectedWorld, parseWorld, WORLD } from "../probe/world.ts";
import { hasKvm, testKernel } from "./fixtures.ts";
import { LONG } from "../long.ts";

const MAIN = `
import os
shell = {name: os.environ[name] for name in ("PATH", "HOME")}
os.execve("/bin/bash", ["bash", "world.sh", "quick"], shell)
`;

Deno.test({
  name: "a guest is the Debian system that mmdebstrap makes of its packages",
  // It starts hundreds of processes, which takes many minutes where kernels are emulated.
  ignore: !hasKvm() || !LONG,
  async fn() {
    const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
    try {
      await Deno.writeTextFile(`${directory}/main.py`, MAIN);
      await Deno.copyFile(WORLD, `${directory}/world.sh`);
      const output = await run({ source: directory, kernel: testKernel() }).output();
      const [stdout, stderr] = [output.stdout, output.stderr].map((bytes) =>
        new TextDecoder().decode(bytes)
      );
      const found = parseWorld(stdout!);
      for (const [key, value] of await expectedWorld()) {
        if (key === "dpkg verify") continue; // left out by "quick"
        assert.equal(found.get(key), value, `${key}; ${stderr}`);
      }
      assert.equal(output.exitCode, 0);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  },
});

const FINDS = `
import datetime, locale, os, socket, subprocess, zoneinfo
print(subprocess.run(["ls", "/usr/share/zoneinfo/Europe/Paris"], capture_output=True, text=True).stdout)
print(datetime.datetime(2024, 1, 15, 12, tzinfo=zoneinfo.ZoneInfo("Asia/Kathmandu")).utcoffset())
print(locale.setlocale(locale.LC_ALL, "C.UTF-8"), socket.gethostbyname(socket.gethostname()))
os.mkdir("made")
entries = [entry for directory in (".", "/etc") for entry in os.scandir(directory)]
print(all(entry.inode() == os.stat(entry.path, follow_symlinks=False).st_ino for entry in entries))
`;

Deno.test({
  name:
    "a program in a guest finds commands, time zones, its locale, its own name and files as stat sees them",
  ignore: !hasKvm(),
  async fn() {
    const { stdout } = await run({ language: "python", code: FINDS, kernel: testKernel() })
      .output();
    assert.equal(
      new TextDecoder().decode(stdout),
      "/usr/share/zoneinfo/Europe/Paris\n\n5:45:00\nC.UTF-8 127.0.1.1\nTrue\n",
    );
  },
});
