import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bundleAgent } from "./agent_bundle.ts";
import { edit, ownSources, temporaryCopy } from "../../agent/harness_test.ts";
import { sha256 } from "../../base/store.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { AgentCache } from "./agent_cache.ts";

Deno.test("the agent is bundled when one of its sources changed, and only then", async () => {
  using directory = testDirectory();
  const hostOnly = [
    "agent/client/client.ts",
    "agent/client/http_client.ts",
    "agent/client/client_test.ts",
  ];
  const paths = [...ownSources(await bundleAgent()), ...hostOnly, "builder/image/agent_bundle.ts"];
  await using copy = await temporaryCopy(paths);
  const { root } = copy;
  let bundled = 0;
  const cache = () =>
    new AgentCache({
      directory: join(directory.path, "cache"),
      entry: pathToFileURL(join(root, "agent/main.ts")),
      bundle: (entry) => {
        bundled++;
        return bundleAgent(entry);
      },
      bundlers: [pathToFileURL(join(root, "builder/image/agent_bundle.ts"))],
    });

  const first = await cache().digest();
  assert.equal(bundled, 1);
  assert.equal(await cache().digest(), first);
  const { code, sha256: digest } = await cache().load();
  assert.equal(digest, first);
  assert.equal(sha256(code), first);
  assert.equal(bundled, 1, "not for the same sources");

  for (const path of hostOnly) {
    await edit(join(root, path), "import", "// an edit\nimport");
  }
  await Deno.writeTextFile(join(root, "agent/new.ts"), "export {};\n");
  assert.equal(await cache().digest(), first);
  assert.equal(bundled, 1, "not for what only the host uses");

  await edit(join(root, "builder/image/agent_bundle.ts"), "import", "// an edit\nimport");
  assert.equal(await cache().digest(), first, "another bundler may give the same bundle");
  assert.equal(bundled, 2);

  await edit(join(root, "agent/hooks/python.py"), "compile(", "eval(");
  const hook = await cache().digest();
  assert.notEqual(hook, first);
  await edit(join(root, "base/errors.ts"), '"CloudletError"', '"OtherError"');
  const shared = await cache().digest();
  assert.notEqual(shared, hook);
  await edit(join(root, "base/errors.ts"), '"OtherError"', '"CloudletError"');
  await edit(join(root, "agent/hooks/python.py"), "eval(", "compile(");
  assert.equal(await cache().digest(), first);
  assert.equal(bundled, 5);
});

Deno.test("a bundle that is lost, a damaged one and another package are made anew", async () => {
  using directory = testDirectory();
  const path = join(directory.path, "cache");
  let bundled = 0;
  const cache = new AgentCache({
    directory: path,
    bundle: (entry) => {
      bundled++;
      return bundleAgent(entry);
    },
  });
  const { sha256: digest } = await cache.load();
  const file = join(path, `${digest}.js`);
  await Deno.remove(file);
  assert.equal((await cache.load()).sha256, digest);
  assert.equal(bundled, 2);
  await Deno.writeTextFile(file, "damaged");
  assert.equal(sha256((await cache.load()).code), digest);
  assert.equal(bundled, 3);

  const names = await Array.fromAsync(Deno.readDir(path), ({ name }) => name);
  const record = join(path, names.find((name) => name.startsWith(".sources-"))!);
  await edit(record, "esbuild/", "esbuild/0.0.0-");
  assert.equal(await cache.digest(), digest);
  assert.equal(bundled, 4, "the bundler was another version");
  await Deno.writeTextFile(record, "{");
  assert.equal(await cache.digest(), digest);
  assert.equal(bundled, 5);
});
