import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { DEFAULT_LIMITS, ImageBudget, type ImageLimits } from "../limits.ts";
import { symlinkNode, Tree } from "../tree.ts";
import { makeDeb } from "../archive/fixtures_test.ts";
import { openSource } from "../archive/source.ts";
import { type DebianPackage, openDebian } from "./debian.ts";
import {
  clearsign,
  cutOff,
  filesBelow,
  makeKey,
  sha256,
  stalled,
  startMirror,
  SUITE,
  testOptions,
  type TestPackage,
} from "./fixtures_test.ts";

const KEY = await makeKey();
const INDEX = `dists/${SUITE}/main/binary-amd64`;
const PACKAGES: readonly TestPackage[] = [
  {
    name: "app",
    fields: { Depends: "lib (>= 1.0)" },
    files: [{ name: "./bin/app", content: "a" }],
  },
  { name: "lib", files: [{ name: "./usr/lib/lib.so", content: "library" }] },
  { name: "other" },
];

function failure(code: string, ...patterns: (RegExp | string)[]) {
  return (error: unknown) => {
    assert.ok(error instanceof CloudletError, String(error));
    assert.equal(error.code, code, error.message);
    for (const pattern of patterns) {
      if (typeof pattern === "string") assert.ok(error.message.includes(pattern), error.message);
      else assert.match(error.message, pattern);
    }
    return true;
  };
}

function text(tree: Tree, path: string): string {
  const node = tree.lookup(path);
  assert.ok(node?.type === "file", path);
  using source = openSource(node.content);
  return new TextDecoder().decode(source.read(0, source.size));
}

/** What the cache has, but for the knowledge that the mirror lacks a suite. */
function trusted(cache: string): string[] {
  return filesBelow(cache).filter((name) =>
    !name.startsWith("release/") ||
    JSON.parse(Deno.readTextFileSync(join(cache, name))).text !== null
  );
}

function pathOf(item: DebianPackage): string {
  return decodeURIComponent(new URL(item.url).pathname.slice("/debian/".length));
}

Deno.test("packages are resolved, fetched by digest and unpacked into the tree", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const packages = debian.resolve(["app"]);
  assert.deepEqual(packages.map(({ name }) => name), ["lib", "app"]);
  const tree = new Tree();
  tree.add("bin", symlinkNode("usr/bin"));
  await debian.unpack(packages, tree);
  assert.equal(text(tree, "usr/bin/app"), "a");
  assert.equal(text(tree, "usr/lib/lib.so"), "library");
  const paths = await debian.fetch(packages);
  assert.deepEqual([...paths.keys()], ["lib", "app"]);
  for (const item of packages) {
    assert.equal(sha256(await Deno.readFile(paths.get(item.name)!)), item.sha256);
  }
  assert.deepEqual(test.infos.length, 1, "the mirror has no updates");
  assert.ok(
    mirror.requests.includes(
      `${INDEX}/by-hash/SHA256/${sha256(mirror.files.get(`${INDEX}/Packages.gz`)!)}`,
    ),
  );
});

Deno.test("what is cached is used without the mirror while it is young", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const first = await openDebian(test.options);
  await first.unpack(first.resolve(["app"]), new Tree());
  await mirror.stop();
  await Deno.remove(join(test.cache, "pool"), { recursive: true }); // the unpacked form is enough
  const second = await openDebian({ ...test.options, suite: SUITE });
  const tree = new Tree();
  await second.unpack(second.resolve(["app"]), tree);
  assert.equal(text(tree, "bin/app"), "a");
});

Deno.test("what is cached of a suite and damaged is asked for again", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  await openDebian(test.options);
  const directory = join(test.cache, "release");
  for (const damaged of ["null", "[]", "{", '"text"', "1"]) {
    for (const { name } of Deno.readDirSync(directory)) {
      if (name.endsWith(".json")) Deno.writeTextFileSync(join(directory, name), damaged);
    }
    assert.equal((await openDebian(test.options)).resolve(["lib"]).length, 1, damaged);
  }
});

Deno.test("a mirror that is down is replaced by what it said last, with a remark", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  await openDebian(test.options);
  mirror.behaviour = () => new Response("out of order", { status: 503 });
  test.infos.length = 0;
  const debian = await openDebian({ ...test.options, maxAge: 0 });
  assert.equal(debian.resolve(["lib"]).length, 1);
  assert.ok(
    test.infos.some((info) => info.includes("503") && info.includes(`dists/${SUITE}/InRelease`)),
    test.infos.join("\n"),
  );
  await assert.rejects(debian.fetch(debian.resolve(["lib"])), failure("unavailable", "503"));
});

Deno.test("a mirror that is down from the start is an error with its URL", async () => {
  const mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  await mirror.stop();
  await assert.rejects(openDebian(test.options), failure("unavailable", mirror.url));
  assert.deepEqual(filesBelow(test.cache), []);
});

Deno.test("a tampered InRelease is refused and not cached", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const path = `dists/${SUITE}/InRelease`;
  const good = new TextDecoder().decode(mirror.files.get(path));
  const cases: [string, string][] = [
    [good.replace("Codename: bookworm", "Codename: bookwurm"), "does not match the text"],
    [`Origin: Debian\n${good}`, "no signed text"],
    [good.replace(/-----BEGIN PGP SIGNATURE-----[\s\S]*/, ""), "no signed text"],
    ["", "no signed text"],
  ];
  for (const [content, why] of cases) {
    mirror.files.set(path, new TextEncoder().encode(content));
    await assert.rejects(
      openDebian(test.options),
      failure("untrusted", `${mirror.url}/${path}`, why),
    );
    assert.deepEqual(trusted(test.cache), []);
  }
});

Deno.test("only the signed part of an InRelease is used", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const path = `dists/${SUITE}/InRelease`;
  const good = new TextDecoder().decode(mirror.files.get(path));
  const evil = `SHA256:\n ${"0".repeat(64)} 1 main/binary-amd64/Packages.gz\n`;
  mirror.files.set(path, new TextEncoder().encode(`${good}\n${evil}`));
  // Either it is refused or what follows the signature is ignored.
  const result = await openDebian(test.options).then(
    (debian) => debian.resolve(["lib"]).length,
    (error) => error.code,
  );
  assert.ok(result === 1 || result === "untrusted");
});

Deno.test("an unknown key and an expired key are refused", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using stranger = testOptions(mirror, await makeKey());
  await assert.rejects(
    openDebian(stranger.options),
    failure("untrusted", /signed by unknown keys \([0-9a-f]{16}\)/, "keyring.asc"),
  );
  assert.deepEqual(trusted(stranger.cache), []);

  const then = new Date(Date.now() - 86_400_000);
  const old = await makeKey(then, 3600);
  using expired = testOptions(mirror, old);
  const path = `dists/${SUITE}/InRelease`;
  const signed = new TextDecoder().decode(mirror.files.get(path));
  const body = /\n\n([\s\S]*?)\n-----BEGIN PGP SIGNATURE/.exec(signed)![1]!;
  mirror.files.set(path, new TextEncoder().encode(await clearsign(body, old, then)));
  await assert.rejects(openDebian(expired.options), failure("untrusted", /expired/));
  assert.deepEqual(trusted(expired.cache), []);
});

Deno.test("a keyring that is missing or no keyring is an error with its path", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const keyring = join(test.cache, "..", "none.gpg");
  await assert.rejects(openDebian({ ...test.options, keyring }), failure("not-found", keyring));
  await Deno.writeTextFile(keyring, "these are no keys");
  await assert.rejects(openDebian({ ...test.options, keyring }), failure("invalid-input", keyring));
});

Deno.test("a tampered package index is refused and not cached", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const index = mirror.files.get(`${INDEX}/Packages.gz`)!;
  const expected = sha256(index);
  const byHash = `${INDEX}/by-hash/SHA256/${expected}`;
  const tampered = index.slice();
  tampered[20]! ^= 1;
  mirror.files.set(byHash, tampered);
  await assert.rejects(
    openDebian(test.options),
    failure("untrusted", `${mirror.url}/${byHash}`, expected, sha256(tampered)),
  );
  assert.deepEqual(
    filesBelow(join(test.cache, "index")).filter((name) => !name.endsWith(".lock")),
    [],
  );
});

Deno.test("an index that is not there under its digest is taken by its name", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  mirror.files.delete(
    `${INDEX}/by-hash/SHA256/${sha256(mirror.files.get(`${INDEX}/Packages.gz`)!)}`,
  );
  const debian = await openDebian(test.options);
  assert.equal(debian.resolve(["lib"]).length, 1);
  mirror.files.delete(`${INDEX}/Packages.gz`);
  using fresh = testOptions(mirror, KEY);
  await assert.rejects(
    openDebian(fresh.options),
    failure("unavailable", "the mirror lacks the file"),
  );
});

Deno.test("a tampered package is refused with both digests and leaves no entry", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  const [item] = debian.resolve(["lib"]);
  const tampered = mirror.files.get(pathOf(item!))!.slice();
  tampered[100]! ^= 1;
  mirror.files.set(pathOf(item!), tampered);
  await assert.rejects(
    debian.unpack([item!], new Tree()),
    failure("untrusted", item!.url, item!.sha256, sha256(tampered)),
  );
  assert.ok(!filesBelow(test.cache).some((name) => /\.(deb|tar)$/.test(name)));
  mirror.files.set(pathOf(item!), new Uint8Array([...tampered, 1]));
  await assert.rejects(
    debian.fetch([item!]),
    failure("untrusted", item!.url, `more than the expected ${item!.size} bytes`),
  );
});

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

Deno.test("a package with a hostile archive is refused by its URL", async () => {
  const evil = makeDeb([{ name: "./out", flag: "2", link: "/etc" }, { name: "./out/x" }]);
  await using mirror = await startMirror(KEY, [{ name: "evil", deb: evil }, {
    name: "nodeb",
    deb: new TextEncoder().encode("this is no package"),
  }]);
  using test = testOptions(mirror, KEY);
  const debian = await openDebian(test.options);
  for (const name of ["evil", "nodeb"]) {
    const packages = debian.resolve([name]);
    await assert.rejects(
      debian.unpack(packages, new Tree()),
      failure("untrusted", packages[0]!.url),
    );
  }
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

Deno.test("a release older than the one before is not taken back", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  await openDebian(test.options);
  const old = new Date(Date.now() - 86_400_000).toUTCString();
  await mirror.publish([{ name: "lib", version: "0.5" }], { Date: old });
  const debian = await openDebian({ ...test.options, maxAge: 0 });
  assert.equal(debian.resolve(["lib"])[0]!.version, "1.0");
  assert.ok(test.infos.some((info) => info.includes("older")));
});

Deno.test("a new release replaces the cached one once that is too old", async () => {
  await using mirror = await startMirror(KEY, PACKAGES);
  using test = testOptions(mirror, KEY);
  await openDebian(test.options);
  await mirror.publish([{ name: "lib", version: "2.0" }], {
    Date: new Date(Date.now() + 1000).toUTCString(),
  });
  assert.equal((await openDebian(test.options)).resolve(["lib"])[0]!.version, "1.0");
  const debian = await openDebian({ ...test.options, maxAge: 0 });
  assert.equal(debian.resolve(["lib"])[0]!.version, "2.0");
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
