/**
 * The package as a stranger meets it: uploaded by `deno publish`, run by its name from a registry
 * with a Deno that has nothing of it, and with no configuration beside the program.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../../builder/archive/fixtures_test.ts";
import { hasTools, makeLayout } from "../../builder/oci/fixtures_test.ts";
import { run } from "../oracle.ts";
import { type PackageRegistry, servePackages } from "../package_registry.ts";
import { checkoutPath } from "../paths.ts";
import { hasKvm } from "./fixtures.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const CONFIG = JSON.parse(Deno.readTextFileSync(checkoutPath("../deno.json")));

async function deno(directory: string, registry: PackageRegistry, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: directory,
    env: {
      JSR_URL: registry.url,
      DENO_DIR: join(directory, "deno"),
      DENO_NO_UPDATE_CHECK: "1",
      NO_COLOR: "1",
    },
    stdin: "null",
  }).output();
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

async function publish(): Promise<PackageRegistry> {
  const registry = servePackages();
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["publish", "--token=none", "--allow-dirty", "--no-provenance"],
    cwd: checkoutPath(".."),
    env: { JSR_URL: registry.url, NO_COLOR: "1" },
    stdin: "null",
  }).output();
  assert(success, text(stderr));
  return registry;
}

Deno.test("what is published is what runs, and nothing of tests, tools and examples", async () => {
  await using registry = await publish();
  const paths = [...registry.files.keys()];
  const others = paths.filter((path) =>
    !/^\/(agent|api|base|builder|cli|ffi|node|proto|service|vmm|workload)\//.test(path) &&
    !/^\/(mod\.ts|offline\.ts|deno\.json|LICENSE|README\.md|CHANGELOG\.md)$/.test(path)
  );
  assert.deepEqual(others, []);
  assert.deepEqual(
    paths.filter((path) => /(test|testing|fixtures|compliance)\.ts$/.test(path)),
    [],
  );
  assert(paths.includes("/builder/image/agent/agent.js"));
  const bytes = [...registry.files.values()].reduce((sum, { length }) => sum + length, 0);
  assert(bytes < 4 << 20, `${bytes} bytes`);
});

Deno.test("a stranger's Deno runs it by its name, fetches only what a run needs, and installs it", async () => {
  await using registry = await publish();
  using directory = testDirectory();
  const { path } = directory;
  const version = await deno(path, registry, "run", "-A", `jsr:${CONFIG.name}`, "--version");
  assert.deepEqual([version.stdout, version.code], [`${CONFIG.version}\n`, 0], version.stderr);
  const fetched = (await Array.fromAsync(Deno.readDir(join(path, "deno/npm"))))
    .flatMap(({ name }) => [...Deno.readDirSync(join(path, "deno/npm", name))])
    .map(({ name }) => name);
  for (const name of ["esbuild", "@esbuild", "typescript", "fast-check", "eventsource", "@grpc"]) {
    assert(!fetched.includes(name), `${name} is fetched: ${fetched}`);
  }
  const installed = join(path, "bin/cloudlet");
  const { code, stderr } = await deno(
    path,
    registry,
    ...["install", "-g", "-A", "--root", path, "-n", "cloudlet", `jsr:${CONFIG.name}`],
  );
  assert.equal(code, 0, stderr);
  const { stdout } = await new Deno.Command(installed, {
    args: ["--version"],
    env: { JSR_URL: registry.url, DENO_DIR: join(path, "deno") },
  }).output();
  assert.equal(text(stdout), `${CONFIG.version}\n`);
});

Deno.test({
  name: "the published package runs programs and images, restored and booted, and serves",
  ignore: !hasKvm(),
  async fn(t) {
    await using registry = await publish();
    using directory = testDirectory();
    const { path } = directory;
    const cloudlet = (...args: string[]) =>
      deno(path, registry, "run", "-A", "--quiet", `jsr:${CONFIG.name}`, ...args);
    await Deno.writeTextFile(join(path, "hello.py"), 'import sys\nprint("py", sys.argv[1:])\n');
    await Deno.writeTextFile(join(path, "hello.sh"), "echo sh $1; exit 3\n");

    const all = await deno(path, registry, "cache", "--quiet", `jsr:${CONFIG.name}/offline`);
    assert.equal(all.code, 0, all.stderr);
    assert.equal((await cloudlet("--version")).code, 0);
    registry.asked.clear();

    await t.step("python, restored", async () => {
      const { code, stdout, stderr } = await cloudlet("run", "hello.py", "--", "a", "--b");
      assert.deepEqual([stdout, code], ["py ['a', '--b']\n", 0], stderr);
    });
    await t.step("bash, restored", async () => {
      const { code, stdout, stderr } = await cloudlet("run", "hello.sh", "--", "a");
      assert.deepEqual([stdout, code], ["sh a\n", 3], stderr);
    });
    await t.step({
      name: "an OCI image, booted",
      ignore: !(await hasTools()),
      async fn() {
        await makeLayout(path, "layout", [
          "mkdir bin etc tmp; cp /bin/busybox bin/busybox; ln -s busybox bin/sh",
        ]);
        await run("umoci", [
          ...["config", "--image", "layout:t", "--config.cmd", "/bin/sh"],
          ...["--config.cmd", "-c", "--config.cmd", "echo from the image; exit 4"],
        ], { cwd: path });
        const { code, stdout, stderr } = await cloudlet(
          ...["run", "--no-snapshot", "--image", "oci:layout:t"],
        );
        assert.deepEqual([stdout, code], ["from the image\n", 4], stderr);
      },
    });
    await t.step("a server", async () => {
      const server = new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "-A", "--quiet", `jsr:${CONFIG.name}`, "serve", "--api", "localhost:0"],
          ...["--vmm", "localhost:0", "--state", join(path, "state")],
        ],
        cwd: path,
        env: { JSR_URL: registry.url, DENO_DIR: join(path, "deno"), NO_COLOR: "1" },
        stdin: "null",
        stdout: "null",
        stderr: "piped",
      }).spawn();
      const reader = server.stderr.pipeThrough(new TextDecoderStream()).getReader();
      try {
        let said = "";
        while (!said.includes("VmmService on")) {
          const { value, done } = await reader.read();
          assert(!done, said);
          said += value;
        }
        const url = /HTTP API on (\S+),/.exec(said)![1]!;
        const response = await fetch(`${url}/run`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ language: "python", code: "print(6 * 7)" }),
        });
        assert.match(await response.text(), /"stdout":"42/);
      } finally {
        server.kill("SIGTERM");
        while (!(await reader.read()).done);
        await server.status;
      }
    });
    await t.step("nothing of the package was fetched after its module graph", () => {
      assert.deepEqual([...registry.asked], []);
    });
  },
});
