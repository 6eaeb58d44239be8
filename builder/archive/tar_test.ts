import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import {
  command,
  hasCommand,
  makeTar,
  paxHeader,
  type TarEntry,
  tarMember,
  testDirectory,
} from "./fixtures_test.ts";
import { openSource } from "./source.ts";
import { readTar, type TarMember } from "./tar.ts";

function read(bytes: Uint8Array): TarMember[] {
  return [...readTar(openSource({ kind: "bytes", bytes }, "test.tar"))];
}

function untrusted(pattern: RegExp) {
  return (error: unknown) =>
    error instanceof CloudletError && error.code === "untrusted" && pattern.test(error.message) &&
    error.message.includes("test.tar");
}

Deno.test("every kind of member has its fields", () => {
  const bytes = makeTar([
    { name: "./", flag: "5", mode: 0o1777, uid: 1, gid: 2, mtime: 3 },
    { name: "./file", content: "content", mode: 0o4755, uid: 1000, gid: 100, mtime: 1700000000 },
    { name: "./old", flag: "\0", content: "x" },
    { name: "./hard", flag: "1", link: "./file" },
    { name: "./soft", flag: "2", link: "/etc/target" },
    { name: "./null", flag: "3", major: 1, minor: 3 },
    { name: "./disk", flag: "4", major: 8, minor: 17 },
    { name: "./fifo", flag: "6" },
    { name: "./olddir/", flag: "0" },
  ]);
  const members = read(bytes);
  assert.deepEqual(
    members.map(({ type, name, linkName, mode, major, minor }) =>
      `${type} ${name} ${linkName} ${mode.toString(8)} ${major},${minor}`
    ),
    [
      "directory ./  1777 0,0",
      "file ./file  4755 0,0",
      "file ./old  644 0,0",
      "hardlink ./hard ./file 644 0,0",
      "symlink ./soft /etc/target 644 0,0",
      "character ./null  644 1,3",
      "block ./disk  644 8,17",
      "fifo ./fifo  644 0,0",
      "directory ./olddir/  644 0,0",
    ],
  );
  const { offset, size, uid, gid, mtime } = members[1]!;
  assert.deepEqual([size, uid, gid, mtime], [7, 1000, 100, 1700000000]);
  assert.equal(new TextDecoder().decode(bytes.subarray(offset, offset + size)), "content");
});

Deno.test("long names come from GNU members, the POSIX prefix and pax records", () => {
  const long = `./${"directory/".repeat(20)}file`;
  const link = `../${"elsewhere/".repeat(20)}file`;
  const members = read(makeTar([
    { name: "././@LongLink", flag: "L", content: `${long}1\0` },
    { name: "././@LongLink", flag: "K", content: `${link}\0` },
    { name: "short", flag: "2", link: "short" },
    { name: "name", prefix: "usr/share", magic: "posix" },
    { name: "name", prefix: "no prefix in GNU archives" },
    paxHeader([["path", `${long}2`], ["linkpath", `${link}ü`]]),
    { name: "short", flag: "2" },
    { name: "after", flag: "2", link: "plain" },
  ]));
  assert.deepEqual(members.map(({ name, linkName }) => [name, linkName]), [
    [`${long}1`, link],
    ["usr/share/name", ""],
    ["name", ""],
    [`${long}2`, `${link}ü`],
    ["after", "plain"],
  ]);
});

Deno.test("pax records override numbers and carry binary extended attributes", () => {
  const capability = new Uint8Array([1, 0, 0, 2, 0x0a, 0xff, 0x3d, 0, 0, 0]);
  const members = read(makeTar([
    paxHeader([["uid", "3000000"], ["mtime", "1500000000"]], "g"),
    paxHeader([
      ["gid", "4000000"],
      ["mtime", "-1.5"],
      ["SCHILY.xattr.security.capability", capability],
      ["SCHILY.xattr.user.note", "a=b\nc"],
    ]),
    { name: "one" },
    { name: "two" },
  ]));
  const [one, two] = members;
  assert.deepEqual([one!.uid, one!.gid, one!.mtime], [3000000, 4000000, -2]);
  assert.deepEqual(one!.xattrs?.get("security.capability"), capability);
  assert.deepEqual(one!.xattrs?.get("user.note"), new TextEncoder().encode("a=b\nc"));
  assert.deepEqual([two!.uid, two!.gid, two!.mtime], [3000000, 0, 1500000000]);
  assert.equal(two!.xattrs, undefined);
});

Deno.test("a size of over 8 GiB is read from a GNU binary number", () => {
  // The content is not there, so the error tells the size that was read.
  const size = "\x80" + "\0".repeat(6) + "\x02" + "\0".repeat(4);
  assert.throws(
    () => read(makeTar([{ name: "huge", size }])),
    untrusted(/promises 8589934592 bytes/),
  );
});

Deno.test("malformed archives are refused", () => {
  const good = makeTar([{ name: "file", content: "x".repeat(600) }]);
  const badSum = good.slice();
  badSum[0]! ^= 1;
  assert.throws(() => read(badSum), untrusted(/byte 0 has a wrong checksum/));
  assert.throws(() => read(good.slice(0, 1000)), untrusted(/promises 600 bytes/));
  assert.throws(() => read(good.slice(0, 1536)), untrusted(/truncated/));
  assert.throws(() => read(new Uint8Array(100)), untrusted(/truncated/));
  const cases: [TarEntry[], RegExp][] = [
    [[{ name: "f", size: "-1234567890 " }], /malformed number/],
    [[{ name: "f", size: "\xff".repeat(12) }], /negative size/],
    [[{ name: "f", size: "\x80" + "\x7f".repeat(11) }], /out of range/],
    [[{ name: "f", flag: "S" }], /is a sparse file/],
    [[{ name: "f", flag: "M" }], /has type "M", which is not supported/],
    [[paxHeader([["GNU.sparse.major", "1"]]), { name: "f" }], /is a sparse file/],
    [[paxHeader([["mtime", "now"]]), { name: "f" }], /malformed pax number "now"/],
    [[paxHeader([["size", "-1024"]]), { name: "f" }], /negative size/],
    [[paxHeader([["uid", "9".repeat(30)]]), { name: "f" }], /number out of range/],
    [[{ name: "x", flag: "x", content: "99 path=a\n" }, { name: "f" }], /malformed pax record/],
    [[{ name: "x", flag: "x", content: "8 path=a\n" }, { name: "f" }], /malformed pax record/],
    [[{ name: "x", flag: "x", content: "nonsense" }, { name: "f" }], /malformed pax record/],
    [[{ name: "x", flag: "x", content: "5 path" }, { name: "f" }], /malformed pax record/],
    [[paxHeader([["path", "f"]])], /missing after an extension header/],
    [[{ name: "x", flag: "L", size: 2 << 20 }, { name: "f" }], /extension of 2097152 bytes/],
    [[{ name: "x", flag: "L", content: new Uint8Array([0xff, 0xfe]) }, { name: "f" }], /not UTF-8/],
  ];
  for (const [entries, pattern] of cases) {
    assert.throws(() => read(makeTar(entries)), untrusted(pattern), String(pattern));
  }
});

Deno.test({
  name: "archives of GNU tar and bsdtar, in every format they write, are read alike",
  ignore: !hasCommand("tar") || !hasCommand("bsdtar"),
  fn: async () => {
    using directory = testDirectory();
    const root = join(directory.path, "root");
    const deep = join(root, "deep/".repeat(30), "ü".repeat(60));
    await Deno.mkdir(deep, { recursive: true });
    await Deno.writeTextFile(join(root, "file"), "content");
    await Deno.link(join(root, "file"), join(root, "hard"));
    await Deno.symlink("/nowhere/" + "x".repeat(150), join(root, "soft"));
    await Deno.chmod(join(root, "file"), 0o6751);
    const archive = join(directory.path, "archive");
    const formats = [
      ["tar", "--format=gnu"],
      ["tar", "--format=pax"],
      ["bsdtar", "--format=pax"],
      ["bsdtar", "--format=gnutar"],
    ];
    for (const [tool, format] of formats) {
      await command(tool!, format!, "-cf", archive, "-C", root, ".");
      using source = openSource(archive);
      const members = new Map(
        [...readTar(source)].map((member) => [member.name.replace(/\/$/, ""), { ...member }]),
      );
      const file = members.get("./file")!;
      const hard = members.get("./hard")!;
      // Whichever comes first in the directory has the content.
      const [first, second] = file.type === "file" ? [file, hard] : [hard, file];
      assert.equal(first.size, 7);
      assert.equal(first.mode, 0o6751);
      assert.equal(second.type, "hardlink");
      assert.equal(members.get("./soft")!.linkName, "/nowhere/" + "x".repeat(150));
      const name = `./${"deep/".repeat(30)}${"ü".repeat(60)}`;
      assert.equal(members.get(name)?.type, "directory", `${tool} ${format}`);
    }
  },
});

Deno.test("headers are read through a file's window wherever they lie", async () => {
  using directory = testDirectory();
  const sizes = fc.array(fc.nat(200_000), { minLength: 1, maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(sizes, fc.nat(5000), async (sizes, before) => {
      const entries = sizes.map((size, i) => ({
        name: `file${i}`,
        content: new Uint8Array(size).fill(i + 1),
      }));
      const path = join(directory.path, "archive");
      const tar = Buffer.concat([...entries.map(tarMember), Buffer.alloc(1024)]);
      await Deno.writeFile(path, Buffer.concat([Buffer.alloc(before), tar, Buffer.alloc(77)]));
      using source = openSource({ kind: "file", path, offset: before, size: tar.length });
      const members = [...readTar(source)];
      assert.deepEqual(members.map(({ size }) => size), sizes);
      for (const [i, { offset, size }] of members.entries()) {
        assert.ok(tar.subarray(offset, offset + size).every((byte) => byte === i + 1));
      }
    }),
    { numRuns: 20 },
  );
});
