import assert from "node:assert/strict";
import { silentProgress } from "../../base/progress.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { DecompressPool } from "../archive/decompress_pool.ts";
import { openDebian } from "./debian.ts";
import {
  makeKey,
  sourceOf,
  startMirror,
  SUITE,
  type TestMirror,
  testOptions,
} from "./fixtures_test.ts";
import type { Keyring } from "./release.ts";
import type { Source } from "./sources.ts";
import { openIndexes, openRelease } from "./suite.ts";

const KEY = await makeKey();
const KEYRING: Keyring = {
  name: "test keyring",
  parts: [new TextEncoder().encode(KEY.armoredPublicKey)],
};

function contextOf(cache: string, maxAge = 0) {
  const infos: string[] = [];
  const progress = { ...silentProgress, info: (message: string) => void infos.push(message) };
  return { cache, maxAge, progress, fetch: { attempts: 1 }, infos };
}

/** Has the mirror answer for another suite with what it says of its own. */
function alsoAs(mirror: TestMirror, suite: string): void {
  mirror.files.set(`dists/${suite}/InRelease`, mirror.files.get(`dists/${SUITE}/InRelease`)!);
}

function inSeconds(seconds: number): string {
  return new Date(Date.now() + seconds * 1000).toUTCString();
}

Deno.test("components with equal indexes are opened side by side", async () => {
  // As contrib and non-free of bookworm-updates are, which hold nothing.
  const components = ["main", "contrib", "non-free"];
  await using mirror = await startMirror(KEY, []);
  await mirror.publish([{ name: "app" }], {}, components);
  const source = sourceOf(mirror, { components });
  for (let round = 0; round < 10; round++) {
    using directory = testDirectory();
    using pool = new DecompressPool();
    const context = contextOf(directory.path);
    const release = await openRelease(source, KEYRING, context);
    const indexes = await openIndexes(source, release!, context, () => pool);
    const texts = indexes.map(({ bytes }) => new TextDecoder().decode(bytes));
    assert.equal(texts.length, components.length);
    for (const text of texts) assert.match(text, /^Package: app$/m);
  }
});

Deno.test("a release of another suite is refused, however well it is signed", async () => {
  await using mirror = await startMirror(KEY, []);
  using directory = testDirectory();
  const context = contextOf(directory.path);
  alsoAs(mirror, "bookworm-security");
  await assert.rejects(
    openRelease(sourceOf(mirror, { suite: "bookworm-security" }), KEYRING, context),
    {
      code: "untrusted",
      message: /it is of the suite bookworm \(stable\), not of bookworm-security/,
    },
  );
  assert.deepEqual([...Deno.readDirSync(directory.path)], [], "nothing of it is cached");
});

Deno.test("a suite is known by its codename and by its state", async () => {
  await using mirror = await startMirror(KEY, []);
  using directory = testDirectory();
  const fields = { Codename: "bookworm-security", Suite: "oldstable-security" };
  await mirror.publish([], fields);
  for (const suite of ["bookworm-security", "oldstable-security"]) {
    alsoAs(mirror, suite);
    const source = sourceOf(mirror, { suite });
    const release = await openRelease(source, KEYRING, contextOf(directory.path));
    assert.equal(release?.codename, "bookworm-security");
  }
});

Deno.test("a release of the future is refused, but for a clock that is a little late", async () => {
  await using mirror = await startMirror(KEY, []);
  using directory = testDirectory();
  const open = (changes: Partial<Source> = {}) =>
    openRelease(sourceOf(mirror, changes), KEYRING, contextOf(directory.path));
  await mirror.publish([], { Date: inSeconds(3600) });
  await assert.rejects(open(), {
    code: "untrusted",
    message: /it is not valid before \d{4}-/,
  });
  assert.ok(await open({ maxFuture: Infinity }), "the user's apt may have the check off");
  await mirror.publish([], { Date: inSeconds(5) });
  assert.ok(await open());
});

Deno.test("a cached release of the future does not keep newer ones away", async () => {
  await using mirror = await startMirror(KEY, []);
  using directory = testDirectory();
  const source = sourceOf(mirror);
  await mirror.publish([], { Date: inSeconds(7 * 86_400), Label: "pinned" });
  // As an earlier version of cloudlet would have done.
  const pinning = { ...source, maxFuture: Infinity };
  assert.ok(await openRelease(pinning, KEYRING, contextOf(directory.path)));
  await mirror.publish([], { Date: inSeconds(0) });
  for (const maxAge of [0, 3_600_000]) {
    const release = await openRelease(source, KEYRING, contextOf(directory.path, maxAge));
    assert.ok(release!.date <= Date.now() + 1000);
  }
});

Deno.test("a mirror without the security archive is an error, unless the user says so", async () => {
  await using mirror = await startMirror(KEY, [{ name: "app" }]);
  using test = testOptions(mirror, KEY);
  const { security: _, ...usual } = test.options;
  await assert.rejects(openDebian(usual), {
    code: "unavailable",
    message: /debian-security\/dists\/bookworm-security\/InRelease: the mirror has no such file/,
    remedy: /\[debian\] security/,
  });
  assert.equal((await openDebian({ ...usual, security: false })).resolve(["app"]).length, 1);
});

Deno.test("an archive named as the security archive is used", async () => {
  await using mirror = await startMirror(KEY, [{ name: "app" }]);
  const name = "bookworm-security";
  await mirror.publish([{ name: "app", version: "2.0" }], { Codename: name });
  await using base = await startMirror(KEY, [{ name: "app" }]);
  for (const [path, file] of [...mirror.files]) {
    mirror.files.set(path.replace(`dists/${SUITE}/`, `dists/${name}/`), file);
  }
  using test = testOptions(base, KEY);
  const debian = await openDebian({ ...test.options, security: mirror.url });
  assert.equal(debian.resolve(["app"])[0]!.version, "2.0");
});

Deno.test("a suite that the mirror had before stays when it is gone", async () => {
  await using mirror = await startMirror(KEY, []);
  using directory = testDirectory();
  const source = sourceOf(mirror, { optional: true });
  assert.ok(await openRelease(source, KEYRING, contextOf(directory.path)));
  mirror.files.clear();
  const context = contextOf(directory.path);
  assert.ok(await openRelease(source, KEYRING, context));
  assert.match(context.infos.join(), /no such file; going on with what it said at/);
});

Deno.test("what was once known to be missing is an error where it is needed", async () => {
  await using mirror = await startMirror(KEY, []);
  mirror.files.clear();
  using directory = testDirectory();
  const open = (optional: boolean) =>
    openRelease(sourceOf(mirror, { optional }), KEYRING, contextOf(directory.path));
  assert.equal(await open(true), undefined);
  await mirror.stop();
  await assert.rejects(open(false), { code: "unavailable" });
});
