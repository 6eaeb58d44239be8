/** Packed data: xz, gzip, zstd, LZ4. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import { decompress, detectCompression } from "../../builder/archive/decompress.ts";
import { command, hasCommand } from "../../builder/archive/fixtures_test.ts";
import { lz4Legacy } from "../../builder/archive/lz4.ts";
import { decodeX86, withoutX86Filter } from "../../builder/archive/xz_x86.ts";
import { ZstdFrames } from "../../builder/archive/zstd_frames.ts";
import { concatenate, fuzz, type Random, refusedOrAsync } from "./harness.ts";

const utf8 = new TextEncoder();

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
