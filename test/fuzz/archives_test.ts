/** Archives and packed data: tar, ar, layers, xz, gzip, zstd, LZ4; and what images are made of. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import { findDataMember, readAr } from "../../builder/archive/ar.ts";
import { decompress, detectCompression } from "../../builder/archive/decompress.ts";
import {
  command,
  hasCommand,
  makeAr,
  makeDeb,
  makeTar,
  octal,
  paxHeader,
  paxRecord,
  type TarEntry,
} from "../../builder/archive/fixtures_test.ts";
import { lz4Legacy } from "../../builder/archive/lz4.ts";
import { type ByteSource, openSource } from "../../builder/archive/source.ts";
import { readTar } from "../../builder/archive/tar.ts";
import { addTar } from "../../builder/archive/unpack.ts";
import { decodeX86, withoutX86Filter } from "../../builder/archive/xz_x86.ts";
import { ZstdFrames } from "../../builder/archive/zstd_frames.ts";
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
    const member = refusedOr(() => findDataMember(sourceOf(bytes)), "untrusted");
    if (member === undefined) return;
    assert(member.offset >= 8 && member.size >= 0 && member.offset + member.size <= bytes.length);
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

// -- packed data -----------------------------------------------------------------------------------

const PLAIN = utf8.encode(
  "All work and no play. ".repeat(300) + Array.from({ length: 900 }, (_, i) => i),
);

function streamOf(...pieces: readonly Uint8Array[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  return ReadableStream.from(pieces as Uint8Array<ArrayBuffer>[]);
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  return concatenate(...await Array.fromAsync(pieces));
}

/** The bytes in two pieces. */
function cut(random: Random, bytes: Uint8Array): [Uint8Array, Uint8Array] {
  const at = random.below(bytes.length + 1);
  return [bytes.subarray(0, at), bytes.subarray(at)];
}

async function packed(tool: string, ...flags: string[]): Promise<Uint8Array> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, PLAIN);
    return await command(tool, ...flags, "-c", path);
  } finally {
    await Deno.remove(path);
  }
}

const LIMIT = 4 * PLAIN.length;

for (
  const [format, make] of [
    ["gzip", () => gzipSync(PLAIN)],
    ["zstd", () => zstdCompressSync(PLAIN)],
    ["xz", () => packed("xz", "--check=crc32")],
    ["lz4", () => packed("lz4", "-l")],
  ] as const
) {
  const there = format === "gzip" || format === "zstd" || hasCommand(format);
  fuzz(format, async () => {
    const whole = new Uint8Array(await make());
    return async (random) => {
      const sent = random.chance(3) ? concatenate(whole, whole) : whole;
      const bytes = random.chance(8) ? sent : random.damage(sent, 2);
      if (detectCompression(bytes) !== format) return;
      const pieces = cut(random, bytes);
      const limit = random.pick([LIMIT, PLAIN.length, PLAIN.length - 1, 10]);
      const options = { name: "data", limit };
      const plain = await refusedOrAsync(
        () => collect(decompress(streamOf(...pieces), options)),
        "untrusted",
      );
      if (plain === undefined) return;
      assert(plain.length <= limit);
      // The others have a check over what comes out: damage that goes unseen did not change it.
      if (format === "lz4" || format === "zstd") return;
      const all = concatenate(PLAIN, PLAIN);
      assert(Buffer.compare(plain, all.subarray(0, plain.length)) === 0, "damaged data came out");
    };
  }, { ignore: !there });
}

/** LZ4 blocks by the format's own words, as slow as they are plain. */
function lz4Block(block: Uint8Array): number[] | undefined {
  const out: number[] = [];
  let at = 0;
  const long = (length: number) => {
    for (let byte = 255; byte === 255; length += byte) byte = block[at++] ?? NaN;
    return length;
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = token >> 4 === 15 ? long(15) : token >> 4;
    if (!(at + literals <= block.length)) return undefined;
    for (let i = 0; i < literals; i++) out.push(block[at++]!);
    if (at === block.length) return out;
    const offset = block[at]! + (block[at + 1] ?? NaN) * 256;
    at += 2;
    const length = ((token & 15) === 15 ? long(15) : token & 15) + 4;
    if (!(offset >= 1 && offset <= out.length && out.length + length <= 1 << 23)) return undefined;
    for (let i = 0; i < length; i++) out.push(out[out.length - offset]!);
  }
  return undefined;
}

fuzz("lz4-block", () => async (random) => {
  const block = random.chance(2)
    ? random.bytes(random.below(60))
    : Uint8Array.from({ length: random.below(60) }, () =>
      random.pick([0, 1, 2, 15, 0x10, 0x1f, 0xf0, 255]));
  const head = new DataView(new ArrayBuffer(8));
  head.setUint32(0, 0x184c_2102, true);
  head.setUint32(4, block.length, true);
  const frame = concatenate(new Uint8Array(head.buffer), block);
  const got = await collect(lz4Legacy(streamOf(...cut(random, frame)))).catch((error) => {
    assert.match(String(error), /^Error: (LZ4|an LZ4|this is|unexpected end)/);
    return undefined;
  });
  assert.deepEqual(got && [...got], lz4Block(block));
});

fuzz("zstd-frames", () => (random) => {
  const frame = new Uint8Array(zstdCompressSync(random.bytes(random.below(300))));
  const behind = random.bytes(random.below(8));
  const bytes = concatenate(frame, behind);
  const frames = new ZstdFrames();
  const [first, second] = cut(random, bytes);
  let taken = frames.push(first);
  if (taken === 0 || !frames.complete) taken += frames.push(second);
  assert.equal(taken, frame.length);
  assert(frames.complete);
  const damaged = random.damage(frame, 2);
  try {
    assert(new ZstdFrames().push(damaged) <= damaged.length);
  } catch (error) {
    assert.match(String(error), /unknown frame/);
  }
});

/** The encoder's side of the x86 filter, from the decoder: what it gives back must be what it got. */
fuzz("xz-x86", async () => {
  // calls forwards and backwards, and what only looks like one
  const code = concatenate(...Array.from({ length: 900 }, (_, i) => {
    const top = i % 3 === 0 ? 0xff : i % 7 === 0 ? 0x31 : 0;
    return Uint8Array.of(0xe8 + i % 2, i, i >>> 3, top, top, 0x90, i % 5 === 0 ? 0xe8 : 0x90);
  }));
  const path = await Deno.makeTempFile();
  await Deno.writeFile(path, code);
  const whole = await command("xz", "--check=crc32", "--x86", "--lzma2=dict=1MiB", "-c", path);
  await Deno.remove(path);
  return async (random) => {
    const [head, tail] = [whole.subarray(0, 40), whole.subarray(-40)];
    const middle = whole.subarray(40, -40);
    const xz = random.chance(8)
      ? whole
      : random.chance(3)
      ? random.damage(whole, 1)
      : random.chance(2)
      ? concatenate(random.damage(head), middle, tail)
      : concatenate(head, middle, random.damage(tail));
    let plain;
    try {
      plain = withoutX86Filter(xz);
    } catch (error) {
      assert.match(String(error), /^Error: (the index|an integer|the header)/);
      return;
    }
    if (plain === undefined) return;
    const options = { name: "kernel", limit: 1 << 20 };
    const out = await refusedOrAsync(
      () => collect(decompress(streamOf(plain.stream), options)),
      "untrusted",
    );
    if (out === undefined) return;
    const decoded = out.slice();
    decodeX86(decoded);
    assert.equal(decoded.length, out.length);
    if (xz === whole) assert.deepEqual(decoded, code);
  };
}, { ignore: !hasCommand("xz") });

fuzz("gzip-oracle", () => async (random) => {
  const plain = random.bytes(random.below(500));
  const bytes = random.chance(2) ? gzipSync(plain) : concatenate(gzipSync(plain), gzipSync(plain));
  const got = await collect(decompress(streamOf(...cut(random, bytes)), { name: "data" }));
  assert.equal(Buffer.compare(got, gunzipSync(bytes)), 0);
});
