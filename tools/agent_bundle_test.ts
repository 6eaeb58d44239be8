import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { sha256 } from "../base/store.ts";
import { AGENT_SHA256 } from "../builder/image/agent/digest.ts";
import { loadPayload } from "../builder/image/payload.ts";
import { bundleAgent } from "./agent_bundle.ts";
import { BUNDLE, DIGEST, digestModule } from "./bundle.ts";
import { edit, ownSources, startAgent, temporaryCopy } from "../agent/harness_test.ts";

Deno.test("several callers at once, and one after them, get the same bundle", async () => {
  const later = new Promise((resolve) => setTimeout(resolve, 5));
  const bundles = await Promise.all([
    bundleAgent(),
    bundleAgent(),
    later.then(() => bundleAgent()),
  ]);
  bundles.push(await bundleAgent());
  for (const bundle of bundles) {
    assert.equal(bundle.sha256, sha256(bundles[0]!.code), "it is the code's digest");
    assert.equal(sha256(bundle.code), bundle.sha256);
  }
});

Deno.test("the bundle holds what runs in the guest, and nothing of the host's", async () => {
  const bundle = await bundleAgent();
  const sources = ownSources(bundle);
  for (const path of ["agent/main.ts", "agent/child.ts", "agent/hooks/python.py"]) {
    assert(sources.includes(path), path);
  }
  const others = sources.filter((path) =>
    /^agent\/(client|http_client|bundle|agent_command)\b|_test\.ts$/.test(path) ||
    !/^(agent|workload|base|proto\/gen)\//.test(path)
  );
  assert.deepEqual(others, []);
  const code = new TextDecoder().decode(bundle.code);
  assert(code.includes("_run_module_as_main"), "the hooks are in it as text");
  assert(!code.includes("@agent-version@"));
  await using agent = await startAgent();
  const { version } = await agent.client.info({});
  assert.match(version, /^[0-9a-f]{16}$/);
  assert(code.includes(version));
});

Deno.test("an edit of a module of the guest changes the bundle; where it is and remarks do not", async () => {
  const original = await bundleAgent();
  await using copy = await temporaryCopy(ownSources(original));
  const bundle = async () => {
    const made = await bundleAgent(pathToFileURL(join(copy.root, "agent/main.ts")));
    assert.deepEqual(ownSources(made, copy.root), ownSources(original));
    return made.sha256;
  };
  assert.equal(await bundle(), original.sha256, "the place is not in it");
  await edit(join(copy.root, "agent/child.ts"), "const GATHERING", "// a remark\nconst GATHERING");
  assert.equal(await bundle(), original.sha256);
  let last = original.sha256;
  for (
    const [path, from, to] of [
      ["agent/child.ts", "const GATHERING = 5;", "const GATHERING = 6;"],
      ["agent/hooks/bash.sh", "SECONDS=0\n", "SECONDS=1\n"],
      ["agent/hooks/deno.ts", '".")', '"..")'],
      ["base/errors.ts", 'name = "CloudletError"', 'name = "OtherError"'],
    ] as const
  ) {
    await edit(join(copy.root, path), from, to);
    const now = await bundle();
    assert.notEqual(now, last, path);
    last = now;
  }
});

Deno.test("the bundle in the tree is what its sources make: `deno task bundle` was run", async () => {
  const { code, sha256: digest } = await bundleAgent();
  assert.equal(AGENT_SHA256, digest);
  assert.deepEqual(await Deno.readFile(BUNDLE), code);
  assert.equal(await Deno.readTextFile(DIGEST), digestModule(digest));
  const { agent } = await loadPayload();
  assert.equal(sha256(agent.code), agent.sha256, "as text it has the same bytes");
});
