import assert from "node:assert/strict";
import { silentProgress } from "../../base/progress.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { DecompressPool } from "../archive/decompress_pool.ts";
import { makeKey, startMirror, SUITE, type TestMirror } from "./fixtures_test.ts";
import type { Keyring } from "./release.ts";
import type { Source } from "./sources.ts";
import { openIndexes, openRelease } from "./suite.ts";

const KEY = await makeKey();
const KEYRING: Keyring = {
  name: "test keyring",
  parts: [new TextEncoder().encode(KEY.armoredPublicKey)],
};

function sourceOf(mirror: TestMirror, components: readonly string[]): Source {
  return {
    uri: `${mirror.url}/`,
    suite: SUITE,
    components,
    signedBy: [],
    checkValidUntil: true,
    optional: false,
    doubtful: false,
  };
}

Deno.test("components with equal indexes are opened side by side", async () => {
  // As contrib and non-free of bookworm-updates are, which hold nothing.
  const components = ["main", "contrib", "non-free"];
  await using mirror = await startMirror(KEY, []);
  await mirror.publish([{ name: "app" }], {}, components);
  const source = sourceOf(mirror, components);
  for (let round = 0; round < 10; round++) {
    using directory = testDirectory();
    using pool = new DecompressPool();
    const context = {
      cache: directory.path,
      maxAge: 0,
      progress: silentProgress,
      fetch: { attempts: 1 },
    };
    const release = await openRelease(source, KEYRING, context);
    const indexes = await openIndexes(source, release!, context, () => pool);
    const texts = indexes.map(({ bytes }) => new TextDecoder().decode(bytes));
    assert.equal(texts.length, components.length);
    for (const text of texts) assert.match(text, /^Package: app$/m);
  }
});
