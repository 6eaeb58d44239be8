/** Archives and packed data: tar, ar, layers, xz, gzip, zstd, LZ4; and what images are made of. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { findMembers, readAr } from "../../builder/archive/ar.ts";
import {
  makeAr,
  makeDeb,
  makeTar,
  octal,
  paxHeader,
  paxRecord,
  type TarEntry,
} from "../../builder/archive/fixtures_test.ts";
import { type ByteSource, openSource } from "../../builder/archive/source.ts";
import { readTar } from "../../builder/archive/tar.ts";
import { addTar } from "../../builder/archive/unpack.ts";
import { planImage } from "../../builder/erofs/layout.ts";
import { cpioArchive, type CpioEntry } from "../../builder/initramfs/cpio.ts";
import { ImageBudget } from "../../builder/limits.ts";
import { applyLayer } from "../../builder/oci/layer.ts";
import { contentSize, Tree } from "../../builder/tree.ts";
import { concatenate, fuzz, type Random, refusedOr, refusedOrAsync } from "./harness.ts";

const utf8 = new TextEncoder();

function sourceOf(bytes: Uint8Array): ByteSource {
  return openSource({ kind: "bytes", bytes }, "an archive");
}

// -- tar -------------------------------------------------------------------------------------------

const NAMES = ["a", "a/b", "./a", "b", "b/", "/a", "../a", "a/../b", "", ".", "ü", "a/b/c"];
const WHITEOUTS = [".wh.a", "a/.wh..wh..opq", ".wh..wh..opq", ".wh..wh.plnk", ".wh."];
const FLAGS = [
  "0",
  "0",
  "0",
  "5",
  "5",
  "1",
  "2",
  "3",
  "4",
  "6",
  "7",
  "x",
  "g",
  "L",
  "K",
  "S",
  "\0",
];
const PAX_KEYS = [
  "path",
  "linkpath",
  "size",
  "uid",
  "gid",
  "mtime",
  "SCHILY.xattr.user.x",
  "SCHILY.xattr.security.capability",
  "SCHILY.xattr.",
  "GNU.sparse.major",
];
const PAX_VALUES = ["0", "1", "-1", "-512", "-1024", "9".repeat(30), "1.5", "a", "a/b", "", "\0"];
const NUMBERS = [
  octal(5, 12),
  "-1",
  "\x80\0\0\0\0\0\0\0\0\0\0\x05",
  "\xff".repeat(12),
  "77777777777",
];

function tarEntry(random: Random): TarEntry {
  const flag = random.pick(FLAGS);
  const magic = random.pick(["gnu", "posix"] as const);
  const name = random.pick(random.chance(4) ? WHITEOUTS : NAMES);
  if (flag === "x" || flag === "g") {
    const records = Array.from(
      { length: random.below(3) },
      () => [random.pick(PAX_KEYS), random.pick(PAX_VALUES)] as [string, string],
    );
    return paxHeader(records, flag);
  }
  return {
    name,
    flag,
    magic,
    content: flag === "0" || flag === "L" || flag === "K" ? random.text(20) : "",
    link: random.pick(NAMES),
    mode: random.pick([0o644, 0o755, 0o7777]),
    uid: random.pick([0, 1000, 0o7777777]),
    mtime: random.below(2 ** 31),
    major: random.below(5000),
    prefix: magic === "posix" && random.chance(4) ? random.pick(NAMES) : "",
    ...(random.chance(12) && { size: random.pick(NUMBERS) }),
  };
}

/** Makes the checksum of every header right, so that damage gets past it. */
function mendChecksums(bytes: Uint8Array): void {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const block = bytes.subarray(at, at + 512);
    if (block[257] !== 0x75) continue;
    block.fill(0x20, 148, 156);
    block.set(utf8.encode(octal(block.reduce((a, b) => a + b, 0), 7) + " "), 148);
  }
}

function tarOf(random: Random): Uint8Array {
  const tar = makeTar(Array.from({ length: random.below(8) }, () => tarEntry(random)));
  if (random.chance(2)) return tar;
  const damaged = random.damage(tar);
  if (!random.chance(4)) mendChecksums(damaged);
  return damaged;
}

fuzz("tar", () => (random) => {
  const bytes = tarOf(random);
  const source = sourceOf(bytes);
  refusedOr(() => {
    let at = 0;
    for (
      const { offset, size, type, mode } of readTar(source, random.pick(["required", "optional"]))
    ) {
      assert(offset >= at + 512 && size >= 0 && offset + size <= bytes.length, "out of bounds");
      assert(Number.isInteger(size) && (size === 0 || type === "file") && mode <= 0o7777);
      at = offset + size; // members come one after the other, so that there is an end
    }
  }, "untrusted");
});

/** What is in the tree can be written, or is refused. */
function checkTree(tree: Tree, bytes: Uint8Array): void {
  for (const [path, node] of tree.entries()) {
    assert(!path.startsWith("/") && !`/${path}/`.includes("/../"), path);
    if (node.type === "file") assert(contentSize(node.content) <= bytes.length);
  }
  refusedOr(() => planImage(tree, {}), "invalid-input");
}

fuzz("tar-tree", () => (random) => {
  const tree = new Tree();
  const bytes = tarOf(random);
  refusedOr(() => addTar(sourceOf(bytes), tree), "untrusted");
  checkTree(tree, bytes);
});

fuzz("oci-layer", () => (random) => {
  const tree = new Tree();
  const layers = Array.from({ length: 1 + random.below(3) }, () => tarOf(random));
  using budget = new ImageBudget("the image");
  for (const bytes of layers) {
    refusedOr(() => applyLayer(sourceOf(bytes), tree, budget), "untrusted");
  }
  checkTree(tree, concatenate(...layers));
});

fuzz("tar-pax-record", () => (random) => {
  // what one writes is what is read, whatever the bytes of the value are
  const value = random.bytes(random.below(300));
  const key = `SCHILY.xattr.user.${
    random.words(["a", "=", "ü", " ", "."], 5).replaceAll("=", "_")
  }`;
  const header = { ...paxHeader([]), content: paxRecord(key, value) };
  const [member] = readTar(sourceOf(makeTar([header, { name: "f" }])));
  assert.deepEqual(member!.xattrs?.get(key.slice("SCHILY.xattr.".length)), value);
});

// -- ar --------------------------------------------------------------------------------------------

fuzz("ar", () => {
  const debs = (["none", "gzip", "zstd"] as const).map((how) => makeDeb([{ name: "./f" }], how));
  return (random) => {
    if (random.chance(4)) {
      const members = Array.from(
        { length: random.below(5) },
        (_, i): [string, Uint8Array] => [`m${i}`, random.bytes(random.below(50))],
      );
      const bytes = makeAr(members);
      const read = readAr(sourceOf(bytes)).map(({ name, offset, size }): [string, Uint8Array] => [
        name,
        bytes.slice(offset, offset + size),
      ]);
      assert.deepEqual(read, members);
      return;
    }
    const bytes = random.chance(10) ? random.bytes(200) : random.damage(random.pick(debs), 3);
    const found = refusedOr(() => findMembers(sourceOf(bytes)), "untrusted");
    if (found === undefined) return;
    for (const { offset, size } of [found.control, found.data]) {
      assert(offset >= 8 && size >= 0 && offset + size <= bytes.length);
    }
  };
});

// -- cpio ------------------------------------------------------------------------------------------

/** The entries of a newc archive as the kernel reads it (init/initramfs.c, parse_header). */
function readCpio(bytes: Uint8Array): [string, number, string][] {
  const text = Buffer.from(bytes);
  const entries: [string, number, string][] = [];
  for (let at = 0;;) {
    assert.equal(text.toString("latin1", at, at + 6), "070701");
    const field = (n: number) =>
      Number.parseInt(text.toString("latin1", at + 6 + 8 * n, at + 14 + 8 * n), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const name = text.toString("latin1", at + 110, at + 110 + nameSize - 1);
    const content = Math.ceil((at + 110 + nameSize) / 4) * 4;
    if (name === "TRAILER!!!") return entries;
    entries.push([name, mode, text.toString("utf8", content, content + size)]);
    at = Math.ceil((content + size) / 4) * 4;
  }
}

fuzz("cpio", () => async (random) => {
  const entries = Array.from({ length: random.below(6) }, (): CpioEntry => {
    const path = random.chance(8) ? random.text(6) : random.words(["a", "b", "/c", "-", "."], 4);
    const mode = random.chance(20) ? random.u32() : random.below(0o10000);
    return random.chance(3)
      ? { type: "symlink", path, mode, target: random.text(8) }
      : random.chance(3)
      ? { type: "character", path, mode, major: random.pick([1, 4, -1, 2 ** 32]), minor: 3 }
      : random.chance(2)
      ? { type: "directory", path, mode }
      : { type: "file", path, mode, content: utf8.encode(random.text(20)) };
  });
  const archive = await refusedOrAsync(() => cpioArchive(entries), "invalid-input");
  if (archive === undefined) return;
  const told = readCpio(archive);
  assert.deepEqual(
    told.map(([path, mode]) => [path, mode & 0o7777]),
    entries.map(({ path, mode }) => [path, mode]),
  );
});
