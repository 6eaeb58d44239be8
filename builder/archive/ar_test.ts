import assert from "node:assert/strict";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { findMembers, readAr } from "./ar.ts";
import { makeAr, makeDeb } from "./fixtures_test.ts";
import { openSource } from "./source.ts";

function source(bytes: Uint8Array) {
  return openSource({ kind: "bytes", bytes }, "test.deb");
}

function untrusted(pattern: RegExp) {
  return (error: unknown) =>
    error instanceof CloudletError && error.code === "untrusted" && pattern.test(error.message) &&
    error.message.includes("test.deb");
}

Deno.test("readAr gives names and places of all members", () => {
  const bytes = makeAr([["one", "1"], ["two/", "22"], ["empty", ""], ["four", "4444"]]);
  const members = readAr(source(bytes));
  assert.deepEqual(
    members.map(({ name, offset, size }) => [
      name,
      new TextDecoder().decode(bytes.subarray(offset, offset + size)),
    ]),
    [["one", "1"], ["two", "22"], ["empty", ""], ["four", "4444"]],
  );
});

Deno.test("readAr agrees with what was written, for any members", () => {
  const member = fc.tuple(fc.stringMatching(/^[a-z0-9.]{1,15}$/), fc.uint8Array({ maxLength: 70 }));
  fc.assert(fc.property(fc.array(member, { maxLength: 6 }), (members) => {
    const bytes = makeAr(members);
    const read = readAr(source(bytes)).map(({ name, offset, size }) => [
      name,
      bytes.subarray(offset, offset + size),
    ]);
    assert.deepEqual(read, members);
  }));
});

Deno.test("readAr refuses what is no ar archive, cut off or malformed", () => {
  const good = makeAr([["member", "content"]]);
  const malformed = good.slice();
  malformed[8 + 48] = 0x2d; // "-": a negative size
  assert.throws(() => readAr(source(new Uint8Array(3))), untrusted(/not an ar archive/));
  assert.throws(() => readAr(source(good.slice(0, 40))), untrusted(/truncated at byte 8/));
  assert.throws(() => readAr(source(good.slice(0, 70))), untrusted(/"member" is truncated/));
  assert.throws(() => readAr(source(malformed)), untrusted(/header at byte 8 is malformed/));
});

Deno.test("findMembers finds both archives in every compression and skips _ members", () => {
  for (const compression of ["none", "gzip", "zstd"] as const) {
    const { control, data } = findMembers(source(makeDeb([], compression)));
    assert.match(control.name, /^control\.tar/);
    assert.match(data.name, /^data\.tar/);
  }
  const bytes = makeAr([
    ["debian-binary", "2.1\nmore\n"],
    ["_note", "x"],
    ["control.tar", "c"],
    ["_note2", "x"],
    ["data.tar.xz", "d"],
  ]);
  assert.equal(findMembers(source(bytes)).data.name, "data.tar.xz");
});

Deno.test("findMembers refuses packages that deb(5) does not allow", () => {
  const control: [string, string] = ["control.tar", ""];
  const cases: [[string, string][], RegExp][] = [
    [[["control.tar", ""], ["data.tar", ""]], /first member is not debian-binary/],
    [[["debian-binary", "3.0\n"], control, ["data.tar", ""]], /format "3.0" is not 2.x/],
    [[["debian-binary", "2.0\n"], ["data.tar", ""]], /no control.tar followed by data.tar/],
    [[["debian-binary", "2.0\n"], control], /no control.tar followed by data.tar/],
    [[["debian-binary", "2.0\n"], control, ["evil", ""]], /"evil" in place of data.tar/],
  ];
  for (const [members, pattern] of cases) {
    assert.throws(() => findMembers(source(makeAr(members))), untrusted(pattern));
  }
});
