/** Packages fetched from mirrors that misbehave, and onto disks that are full. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { CloudletError } from "../../base/errors.ts";
import { DEFAULT_LIMITS, ImageBudget, type ImageLimits } from "../limits.ts";
import { Tree } from "../tree.ts";
import { makeDeb } from "../archive/fixtures_test.ts";
import { type DebianPackage, openDebian } from "./debian.ts";
import {
  cutOff,
  failure,
  filesBelow,
  makeKey,
  PACKAGES,
  sha256,
  stalled,
  startMirror,
  testOptions,
  type TestPackage,
} from "./fixtures_test.ts";

const KEY = await makeKey();
function pathOf(item: DebianPackage): string {
  return decodeURIComponent(new URL(item.url).pathname.slice("/debian/".length));
}

Deno.test("a download that ends early is resumed where it ended, also by a later run", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const [item] = debian.resolve(["lib"]);
  const file = mirror.files.get(pathOf(item!))!;
  mirror.behaviour = (path, request) => {
    if (path !== pathOf(item!)) return undefined;
    if (request.headers.has("range")) return new Response("", { status: 503 });
    return cutOff(file, 100);
  };
  mirror.requests.length = 0;
  await assert.rejects(debian.fetch([item!]), failure("unavailable", item!.url));
  assert.ok(!filesBelow(test.cache).some((name) => name.endsWith(".deb")));
  assert.ok(mirror.requests.includes(`${pathOf(item!)} bytes=100-`));

  mirror.behaviour = undefined;
  mirror.requests.length = 0;
  const path = (await debian.fetch([item!])).get("lib")!;
  assert.deepEqual(mirror.requests, [`${pathOf(item!)} bytes=100-`]);
  assert.deepEqual(await Deno.readFile(path), file);
  assert.deepEqual(filesBelow(test.cache).filter((name) => name.endsWith(".part")), []);
});

Deno.test("a wrong beginning left by an earlier run is thrown away", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const [item] = debian.resolve(["lib"]);
  const part = join(test.cache, "pool", `${item!.sha256}.deb.part`);
  await Deno.mkdir(join(test.cache, "pool"));
  for (const wrong of [new Uint8Array(100), new Uint8Array(item!.size), new Uint8Array(99_999)]) {
    await Deno.writeFile(part, wrong);
    const path = (await debian.fetch([item!])).get("lib")!;
    assert.equal(sha256(await Deno.readFile(path)), item!.sha256);
    await Deno.remove(path);
  }
});

Deno.test("a server that ignores ranges is asked for the whole file", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const [item] = debian.resolve(["lib"]);
  const file = mirror.files.get(pathOf(item!))!;
  await Deno.mkdir(join(test.cache, "pool"));
  const part = join(test.cache, "pool", `${item!.sha256}.deb.part`);
  await Deno.writeFile(part, file.slice(0, 50));
  mirror.behaviour = (path) => path === pathOf(item!) ? new Response(file) : undefined;
  const path = (await debian.fetch([item!])).get("lib")!;
  assert.deepEqual(await Deno.readFile(path), file);
});

Deno.test("passing failures are tried again, refusals are not", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const [item] = debian.resolve(["lib"]);
  let count = 0;
  mirror.behaviour = () => ++count === 1 ? new Response("", { status: 502 }) : undefined;
  await debian.fetch([item!]);
  assert.equal(count, 2);

  const [other] = debian.resolve(["other"]);
  for (const status of [403, 404]) {
    count = 0;
    mirror.behaviour = () => (count++, new Response("", { status }));
    await assert.rejects(debian.fetch([other!]), failure("unavailable", other!.url));
    assert.equal(count, 1, `${status}`);
  }
});

Deno.test("a server that falls silent is given up", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian({
    ...test.options,
    fetch: { attempts: 1, backoff: 1, timeout: 50 },
  });
  const [item] = debian.resolve(["lib"]);
  const file = mirror.files.get(pathOf(item!))!;
  mirror.behaviour = () => stalled(file, 10);
  await assert.rejects(debian.fetch([item!]), failure("unavailable", /silent for 0.05 s/));
  mirror.behaviour = undefined;
  await debian.fetch([item!]);
});

Deno.test("an abort in the middle ends at once and leaves no entry", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const abort = new AbortController();
  const debian = await openDebian({ ...test.options, signal: abort.signal });
  const packages = debian.resolve(["app", "other"]);
  const arrived = Promise.withResolvers<void>();
  mirror.behaviour = (path) => {
    if (path !== pathOf(packages[0]!)) return undefined;
    arrived.resolve();
    return stalled(mirror.files.get(path)!, 20);
  };
  const unpacking = debian.unpack(packages, new Tree());
  await arrived.promise;
  abort.abort();
  await assert.rejects(unpacking, failure("cancelled"));
  assert.ok(!filesBelow(test.cache).includes(`pool/${packages[0]!.sha256}.deb`));
  assert.ok(!filesBelow(test.cache).some((name) => name.includes(".tmp-")));
});

Deno.test("a failure of one package ends the others", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const packages = debian.resolve(["app"]);
  mirror.behaviour = (path) =>
    path === pathOf(packages[0]!)
      ? new Response("", { status: 403 })
      : stalled(mirror.files.get(path)!, 20);
  await assert.rejects(debian.fetch(packages), failure("unavailable", packages[0]!.url));
});

Deno.test("packages may not take more than the image that they are for", async () => {
  const big: TestPackage = {
    name: "big",
    fields: { Depends: "lib" },
    files: [{ name: "./big", content: new Uint8Array(3 * 2 ** 20) }],
  };
  await using mirror = await startMirror(KEY, [...PACKAGES, big]);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const packages = debian.resolve(["big"]);
  const unpack = async (changes: Partial<ImageLimits>) => {
    using budget = new ImageBudget("x", { ...DEFAULT_LIMITS, ...changes });
    await debian.unpack(packages, new Tree(), budget);
  };
  const refused = failure("invalid-input", "Cannot make the image x", "more than 2 MiB");
  await assert.rejects(unpack({ bytes: 2 * 2 ** 20 }), refused);
  await unpack({});
  await assert.rejects(unpack({ bytes: 2 * 2 ** 20 }), refused, "what is cached counts, too");
  await assert.rejects(unpack({ entries: 1 }), failure("invalid-input", "more than 1 files"));

  using fresh = testOptions(mirror, KEY);
  const slow = await openDebian(fresh.options);
  mirror.behaviour = () => stalled(new Uint8Array(1), 1);
  using budget = new ImageBudget("x", { ...DEFAULT_LIMITS, time: 200 });
  await assert.rejects(
    slow.unpack(packages, new Tree(), budget),
    failure("invalid-input", "takes over"),
  );
});

Deno.test("several processes at once fetch every file once and all end well", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const script = `
    import { openDebian } from ${JSON.stringify(new URL("debian.ts", import.meta.url).href)};
    import { Tree } from ${JSON.stringify(new URL("../tree.ts", import.meta.url).href)};
    const { progress: _, ...options } = JSON.parse(Deno.args[0]);
    const debian = await openDebian(options);
    const tree = new Tree();
    await debian.unpack(debian.resolve(["app", "other"]), tree);
    console.log([...tree.entries()].length);
  `;
  const path = join(test.cache, "..", "process.ts");
  await Deno.writeTextFile(path, script);
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const outputs = await Promise.all(
    [1, 2, 3].map(() =>
      new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "--quiet",
          "--no-check",
          "-c",
          config,
          path,
          JSON.stringify(test.options),
        ],
      }).output()
    ),
  );
  for (const { code, stdout, stderr } of outputs) {
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    assert.equal(new TextDecoder().decode(stdout).trim(), "6");
  }
  const debs = mirror.requests.filter((path) => path.endsWith(".deb"));
  assert.deepEqual(debs.length, new Set(debs).size, debs.join("\n"));
  assert.deepEqual(
    filesBelow(test.cache).filter((name) => /\.part$|\.tmp-/.test(name)),
    [],
  );
});

Deno.test({
  name: "a full disk is an error with a remedy and leaves no entry",
  ignore: Deno.uid() !== 0, // a small file system has to be mounted
  fn: async () => {
    const content = crypto.getRandomValues(new Uint8Array(60_000));
    const big = makeDeb(Array.from({ length: 40 }, (_, i) => ({ name: `./big${i}`, content })));
    await using mirror = await startMirror(KEY, [{ name: "big", deb: big }]);
    using test = testOptions(mirror, KEY);
    const mounted = join(test.cache, "..", "small");
    await Deno.mkdir(mounted);
    const mount = (command: string, ...args: string[]) =>
      new Deno.Command(command, { args, stdout: "null", stderr: "null" }).output();
    const size = (kilobytes: number) => `size=${kilobytes}k`;
    if (!(await mount("mount", "-t", "tmpfs", "-o", size(64), "tmpfs", mounted)).success) {
      console.log("skipped: a tmpfs cannot be mounted here");
      return;
    }
    try {
      const debian = await openDebian({ ...test.options, cache: mounted });
      const packages = debian.resolve(["big"]);
      const full = (error: unknown) =>
        failure("host", mounted)(error) && /free some disk/.test((error as CloudletError).remedy!);
      await assert.rejects(debian.unpack(packages, new Tree()), full);
      assert.ok(!filesBelow(mounted).some((name) => /\.deb$|\.tar$|\.tmp-/.test(name)));
      // Enough for the package, but not for its files.
      await mount("mount", "-o", `remount,${size(big.length / 1024 + 200)}`, mounted);
      await assert.rejects(debian.unpack(packages, new Tree()), full);
      assert.ok(!filesBelow(mounted).some((name) => /\.tar$|\.tmp-/.test(name)));
      await mount("mount", "-o", `remount,${size(8192)}`, mounted);
      await debian.unpack(packages, new Tree());
    } finally {
      await mount("umount", mounted);
    }
  },
});
