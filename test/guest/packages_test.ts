/**
 * Packages that projects name, installed in microVMs from registries on this host's loopback.
 *
 * `CLOUDLET_TEST_PACKAGES` names the tests, separated by commas: pip, npm, cargo, deno, broken. On a host
 * that emulates the kernels of guests a process takes long to start: there it is `pip`, with one small
 * package, unless it says otherwise; `deno task test:hardware packages` has all.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run, type RunOptions, type RunResult } from "../../mod.ts";
import { dependencyStore } from "../../builder/layers.ts";
import { cargoRegistry, npmRegistry, pipIndex, type Registry } from "../packages/registries.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

const kvm = hasKvm();
const wanted = (Deno.env.get("CLOUDLET_TEST_PACKAGES") ?? "pip").split(",");
const isWhole = Deno.env.get("CLOUDLET_TEST_PACKAGES") !== undefined;

/** A guest reaches the host's loopback there. */
const HOST = "10.0.2.2";

interface Ended {
  readonly result: RunResult;
  readonly out: string;
  /** What the program and what installs said on standard error. */
  readonly said: string;
}

async function ended(options: RunOptions, kill?: (said: string) => boolean): Promise<Ended> {
  await using program = run({ kernel: testKernel(), snapshot: isWhole, ...options });
  const decoder = new TextDecoder();
  let [out, said] = ["", ""];
  let killed = false;
  for await (const event of program) {
    if (event.type === "stdout") out += decoder.decode(event.data, { stream: true });
    if (event.type === "stderr") said += decoder.decode(event.data, { stream: true });
    if (kill?.(out + said) && !killed) {
      killed = true;
      void program.kill("KILL").catch(() => {});
    }
  }
  return { result: await program.result, out, said };
}

async function project(files: Readonly<Record<string, string>>): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-packages-" });
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(join(directory, path, ".."), { recursive: true });
    await Deno.writeTextFile(join(directory, path), text);
  }
  return directory;
}

const entries = async () => (await dependencyStore().keys()).length;

function test(
  name: string,
  title: string,
  registry: () => Promise<Registry>,
  body: (registry: Registry) => Promise<void>,
) {
  Deno.test({
    name: `${name}: ${title}`,
    ignore: !kvm || !wanted.includes(name),
    // A guest may still be ending.
    sanitizeOps: false,
    sanitizeResources: false,
    async fn() {
      await using served = await registry();
      await body(served);
    },
  });
}

const pip = ({ port }: Registry) => ({
  buildNetwork: [`host:${port}`],
  buildEnv: {
    PIP_INDEX_URL: `http://${HOST}:${port}/simple`,
    PIP_TRUSTED_HOST: HOST,
    PIP_RETRIES: "1",
  },
});

test(
  "pip",
  "a project runs with its packages, the second time without a network",
  pipIndex,
  async (index) => {
    const source = await project({
      "main.py": "import colours, sys\n" + (isWhole ? "import fast\n" : "") +
        `print(colours.RED, sys.prefix, ${isWhole ? "fast.answer()" : 42})\n`,
      "requirements.txt": isWhole ? "colours\nfast\n" : "colours\n",
    });
    const { buildEnv, buildNetwork } = pip(index);
    const before = await entries();
    await assert.rejects(
      () => ended({ source, buildEnv }),
      /names packages that are not installed \(colours/,
    );
    assert.equal(index.asked.length, 0);
    const first = await ended({ source, buildEnv, buildNetwork });
    assert.equal(first.out, "red, dark /opt/dependencies/python 42\n", first.said);
    assert.match(first.said, /Successfully installed .*colours-1\.2/);
    assert.equal(await entries(), before + 1);
    const asked = index.asked.length;
    assert(asked > 0);
    if (!isWhole) return;
    const second = await ended({ source, buildEnv });
    assert.deepEqual([second.out, second.said], [first.out, ""]);
    assert.equal(index.asked.length, asked);
    // Another project, with one package of it: the host fetched the archive before.
    const other = await project({
      "main.py": "import shades\nprint(shades.SHADE)\n",
      "requirements.txt": "shades\n",
    });
    assert.equal((await ended({ source: other, buildEnv, buildNetwork })).out, "dark\n");
    const archives = index.asked.filter((path) => path.startsWith("/files/shades"));
    assert.deepEqual(archives, ["/files/shades-2.0-py3-none-any.whl"]);
  },
);

test(
  "npm",
  "install scripts, native packages and workspaces; the lock is kept",
  npmRegistry,
  async (registry) => {
    const source = await project({
      "index.js": `const { existsSync } = require("fs");\n` +
        `console.log(require("own"), require("native").answer(), existsSync("package-lock.json"));\n`,
      "package.json": JSON.stringify({
        ...{ name: "app", private: true, workspaces: ["packages/*"] },
        dependencies: { scripted: "^2.0.0", native: "1.0.0" },
      }),
      "packages/own/package.json": `{"name":"own","version":"1.0.0","main":"index.js"}`,
      "packages/own/index.js": `module.exports = "own, " + require("scripted");`,
    });
    const buildEnv = { npm_config_registry: `http://${HOST}:${registry.port}/` };
    const buildNetwork = [`host:${registry.port}`];
    const first = await ended({ source, buildEnv, buildNetwork, outputs: ["package-lock.json"] });
    assert.equal(first.out, "own, script and leaf 42 true\n", first.said);
    const asked = registry.asked.length;
    const second = await ended({ source, buildEnv });
    assert.deepEqual([second.out, registry.asked.length], [first.out, asked]);
  },
);

test("cargo", "crates of a registry, with and without a lock", cargoRegistry, async (registry) => {
  const source = await project({
    "Cargo.toml": `[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n` +
      `[dependencies]\nadder = { version = "0.1", registry = "test" }\n`,
    ".cargo/config.toml": `[registries.test]\nindex = "sparse+http://${HOST}:${registry.port}/"\n`,
    "src/main.rs": `fn main() { println!("{}", adder::add(41)); }\n`,
  });
  const buildNetwork = [`host:${registry.port}`];
  const first = await ended({ source, buildNetwork, outputs: ["Cargo.lock"] });
  assert.equal(first.out, "42\n", first.said);
  const asked = registry.asked.length;
  const second = await ended({ source });
  assert.deepEqual([second.out, registry.asked.length], ["42\n", asked]);
});

test("deno", "npm: specifiers are there without a network", npmRegistry, async (registry) => {
  const source = await project({
    "main.ts": `import leaf from "npm:leaf@1";\nconsole.log(leaf);\n`,
  });
  const buildEnv = { NPM_CONFIG_REGISTRY: `http://${HOST}:${registry.port}/` };
  const first = await ended({
    source,
    buildEnv,
    env: buildEnv,
    buildNetwork: [`host:${registry.port}`],
  });
  assert.equal(first.out, "leaf\n", first.said);
  const asked = registry.asked.length;
  assert.equal((await ended({ source, buildEnv, env: buildEnv })).out, "leaf\n");
  assert.equal(registry.asked.length, asked);
});

test(
  "broken",
  "what goes wrong is said by pip itself, and nothing is kept",
  pipIndex,
  async (index) => {
    const failures: readonly [requirement: string, said: RegExp][] = [
      ["wrong-hash", /DO NOT MATCH THE HASHES/],
      ["yanked", /No matching distribution found for yanked/],
      ["missing", /No matching distribution found for missing/],
      ["locked", /401|No matching distribution/],
      ["limited", /429|too many|No matching distribution/i],
      ["truncated", /is invalid|IncompleteRead|connection broken/i],
      ["shades --hash=sha256:" + "0".repeat(64), /DO NOT MATCH THE HASHES|hash/],
    ];
    const before = await entries();
    for (const [requirement, said] of failures) {
      const source = await project({
        "main.py": "print('ran')\n",
        "requirements.txt": `${requirement}\n`,
      });
      const failed = await ended({ source, ...pip(index) });
      assert.equal(failed.result.outcome, "build-failed", `${requirement}: ${failed.said}`);
      assert.match(failed.result.message, /^pip ended with exit code \d+$/);
      assert.match(failed.said, said, `${requirement}: ${failed.said}`);
      assert.equal(failed.out.includes("ran"), false);
    }
    // A registry that is down.
    const source = await project({ "main.py": "", "requirements.txt": "shades\n" });
    const down = await ended({ source, ...pip({ ...index, port: 1 }) });
    assert.equal(down.result.outcome, "build-failed");
    // A package that tries what it can.
    const secret = await Deno.makeTempFile();
    const evil = await project({ "main.py": "", "requirements.txt": "evil\n" });
    const { buildEnv, buildNetwork } = pip(index);
    using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const tried = await ended({
      ...{ source: evil, buildNetwork },
      buildEnv: {
        ...{ ...buildEnv, TEST_HOST_FILE: secret, TEST_OTHER_PORT: String(other.addr.port) },
        PIP_VERBOSE: "1", // else pip shows what a build says only when that has failed
      },
    }, (said) => said.includes("evil: waits for ever"));
    assert.match(tried.said + tried.out, /evil: host file missing/);
    assert.match(tried.said + tried.out, /evil: refused ConnectionRefusedError/);
    assert.match(tried.said + tried.out, /evil: forked/);
    assert.match(tried.said + tried.out, /evil: full No space left on device/);
    assert.equal(tried.result.outcome, "killed");
    await Deno.remove(secret);
    assert.equal(await entries(), before);
  },
);
