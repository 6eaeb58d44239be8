import assert from "node:assert/strict";
import { join } from "node:path";
import { symlinkNode, Tree } from "../tree.ts";
import { makeDeb } from "../archive/fixtures_test.ts";
import { openSource } from "../archive/source.ts";
import { type DebianPackage, openDebian } from "./debian.ts";
import {
  clearsign,
  failure,
  filesBelow,
  makeKey,
  PACKAGES,
  sha256,
  startMirror,
  SUITE,
  testOptions,
} from "./fixtures_test.ts";

const KEY = await makeKey();
const INDEX = `dists/${SUITE}/main/binary-amd64`;
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
