import { deepEqual, equal, match } from "node:assert/strict";
import { Cloudlet, withServer } from "../test/cli_process.ts";
import { denoDir } from "../test/paths.ts";

const FILES = {
  "project/main.py": "print(1)",
  "project/lib/x.py": "22",
  "project/.git/config": "no",
  "more.txt": "333",
  "secret.env": "TOKEN=hunter2\n",
};

Deno.test("a dry run tells what would be run and sent, and nothing runs", () =>
  withServer(FILES, async (cloudlet, path, active) => {
    const cache = { XDG_CACHE_HOME: path("cache"), DENO_DIR: denoDir() };
    const flags = [
      "--dry-run",
      "--env-file",
      path("secret.env"),
      "--memory",
      "512M",
      "--vcpus",
      "1",
    ];
    const more = ["--file", `${path("more.txt")}:in/more.txt`, "--output", `out:${path("a/out")}`];
    const local = new Cloudlet(["run", ...flags, ...more, path("project"), "--verbose", "a b"], {
      env: cache,
    });
    const { code, stdout, stderr } = await local.ended();
    deepEqual([code, stderr], [0, ""]);
    for (
      const line of [
        /^where +this host$/m,
        /^action +prepare-and-run$/m,
        /^language +python$/m,
        /^image +python, Debian \S+; is built first$/m,
        /^kernel +(built|debian|not known).*$/m,
        /^memory +512 MiB$/m,
        /^arguments +--verbose "a b"$/m,
        /^variables +TOKEN$/m,
        /^outputs +out$/m,
        /^sent +3 files, 13 B$/m,
        /^ +in\/more\.txt +3 B$/m,
        /^ +lib\/x\.py +2 B$/m,
      ]
    ) match(stdout, line);
    equal(stdout.includes("hunter2") || stdout.includes(".git"), false);
    const cached = await Array.fromAsync(Deno.readDir(path("."))).then((all) =>
      all.map((e) => e.name)
    );
    equal(cached.includes("cache") || cached.includes("a"), false, "nothing is made");
    const remote = await cloudlet(["run", "--dry-run", "--json", path("project")]).ended();
    const plan = JSON.parse(remote.stdout);
    match(plan.where, /^http:\/\/localhost:\d+$/);
    deepEqual([plan.memory, plan.kernel, plan.bytes, plan.files.length], [
      null,
      "the server's",
      10,
      2,
    ]);
    deepEqual(active(), []);
    equal((await cloudlet(["ps", "--all", "--json"]).ended()).stdout, "");
  }));

Deno.test("a dry run of an image, and one that would be refused", () =>
  withServer(FILES, async (_, path) => {
    const env = { XDG_CACHE_HOME: path("cache"), DENO_DIR: denoDir() };
    const dry = (...args: string[]) => new Cloudlet(["run", "--dry-run", ...args], { env }).ended();
    const image = await dry("--image", "alpine:3", "cat", "/x");
    match(image.stdout, /^language +none: a command of the image$/m);
    match(image.stdout, /^image +\S*alpine:3$/m);
    match(image.stdout, /^arguments +cat \/x$/m);
    const version = await dry("--language", "python@3.11", path("project"));
    match(version.stdout, /^language +python@3\.11$/m);
    match(version.stdout, /^image +python@3\.11, Debian bookworm; is built first$/m);
    const many = await dry("--vcpus", "200", path("project"));
    deepEqual([many.code, many.stdout], [125, ""]);
    match(many.stderr, /200 virtual CPUs are too many/);
    equal((await dry(path("nothing.py"))).code, 127);
  }));

Deno.test("a dry run tells which packages are to be installed, and takes a network as the run does", () =>
  withServer({ "app/main.py": "", "app/requirements.txt": "six\nrich>=13\n" }, async (_, path) => {
    const env = { XDG_CACHE_HOME: path("cache"), DENO_DIR: denoDir() };
    const run = (...flags: string[]) =>
      new Cloudlet(["run", "--dry-run", "--allow", "example.com", ...flags, path("app")], { env })
        .ended();
    const named = await run("--build-network", "public");
    deepEqual([named.code, named.stderr], [0, ""]);
    match(named.stdout, /^packages +six, rich; pip installs them, with --build-network$/m);
    const without = await run("--no-install", "--json");
    equal(JSON.parse(without.stdout).packages, null);
  }));
