import assert from "node:assert/strict";
import { join } from "node:path";
import { HostsFile } from "./hosts_file.ts";

const DEBIAN = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n\n";
const IMAGE = DEBIAN.replace("\n", "\n127.0.1.1\tcloudlet\n");

function inDirectory(test: (directory: string) => void): void {
  const directory = Deno.makeTempDirSync({ prefix: "cloudlet-test-" });
  try {
    test(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** Addresses by name, as hosts(5) has them. */
function lookUp(text: string, name: string): string[] {
  return text.split("\n").map((line) => line.replace(/#.*/, "").trim().split(/\s+/))
    .filter((words) => words.slice(1).includes(name)).map(([address]) => address!);
}

Deno.test("each name takes the place of the one before, and the rest of the file stays", () =>
  inDirectory((directory) => {
    const path = join(directory, "hosts");
    Deno.writeTextFileSync(path, IMAGE);
    using hosts = new HostsFile(path);
    for (const name of ["cloudlet", "a-much-longer-name-than-the-first", "x", "x".repeat(64)]) {
      hosts.name(name);
      const text = Deno.readTextFileSync(path);
      assert(text.startsWith(DEBIAN), text);
      assert.deepEqual(lookUp(text, name), ["127.0.1.1"]);
      assert.equal(text.match(/127\.0\.1\.1/g)?.length, 1, text);
    }
  }));

Deno.test("what a program wrote into the file, or put in its place, stays", () =>
  inDirectory((directory) => {
    const path = join(directory, "hosts");
    Deno.writeTextFileSync(path, DEBIAN);
    using hosts = new HostsFile(path);
    hosts.name("first");
    Deno.writeTextFileSync(path, "10.0.0.1 db", { append: true });
    hosts.name("second");
    let text = Deno.readTextFileSync(path);
    assert.deepEqual([lookUp(text, "db"), lookUp(text, "first"), lookUp(text, "second")], [
      ["10.0.0.1"],
      [],
      ["127.0.1.1"],
    ]);
    Deno.writeTextFileSync(`${path}.new`, "10.0.0.2 other\n");
    Deno.renameSync(`${path}.new`, path);
    hosts.name("third");
    text = Deno.readTextFileSync(path);
    assert.deepEqual([lookUp(text, "other"), lookUp(text, "third")], [["10.0.0.2"], ["127.0.1.1"]]);
  }));

Deno.test("a file that is missing or empty gets localhost, too", () =>
  inDirectory((directory) => {
    for (const content of [undefined, "", "\n"]) {
      const path = join(directory, "hosts");
      if (content !== undefined) Deno.writeTextFileSync(path, content);
      using hosts = new HostsFile(path);
      hosts.name("own");
      const text = Deno.readTextFileSync(path);
      assert.deepEqual(lookUp(text, "localhost"), ["127.0.0.1", "::1"]);
      assert.deepEqual(lookUp(text, "own"), ["127.0.1.1"]);
      Deno.removeSync(path);
    }
  }));

Deno.test("an image in which it cannot be written is left alone", () =>
  inDirectory((directory) => {
    Deno.symlinkSync("/nowhere/at/all", join(directory, "link"));
    Deno.mkdirSync(join(directory, "directory"));
    for (const name of ["link", "directory", "missing/hosts"]) {
      using hosts = new HostsFile(join(directory, name));
      hosts.name("own");
      hosts.name("other");
    }
    const large = join(directory, "large");
    Deno.writeTextFileSync(large, "#".repeat(2 ** 20 + 1));
    using hosts = new HostsFile(large);
    hosts.name("own");
    assert.equal(Deno.statSync(large).size, 2 ** 20 + 1);
  }));

Deno.test("where no program has run, the name is written where the last one was, without a look", () =>
  inDirectory((directory) => {
    const path = join(directory, "hosts");
    Deno.writeTextFileSync(path, DEBIAN);
    using hosts = new HostsFile(path);
    hosts.name("first", true); // there is nothing yet
    hosts.name("second", true);
    const text = Deno.readTextFileSync(path);
    assert.deepEqual([lookUp(text, "first"), lookUp(text, "second")], [[], ["127.0.1.1"]]);
    Deno.writeTextFileSync(`${path}.new`, "10.0.0.2 other\n");
    Deno.renameSync(`${path}.new`, path);
    hosts.name("third", true);
    assert.equal(Deno.readTextFileSync(path), "10.0.0.2 other\n", "it looked");
  }));
