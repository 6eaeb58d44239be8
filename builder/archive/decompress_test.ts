import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { constants, gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { acrossPowerLoss } from "../../base/power_loss_test.ts";
import { decompress, detectCompression } from "./decompress.ts";
import { DecompressPool } from "./decompress_pool.ts";
import { ZstdFrames } from "./zstd_frames.ts";
import { command, hasCommand, testDirectory } from "./fixtures_test.ts";

/** "hello, world\n" a thousand times, through `xz`: there is no compressor for it here. */
const TEXT = "hello, world\n".repeat(1000);
const XZ = Uint8Array.fromBase64(
  "/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4DLHAD9dADQZSe6N74xrypVZEARB+sisrtwbPNef2T5tYdYjpVEVvZXPUuPA4YudFXO6k5T7sWqnGFFmA13P8JHDxvbxAAAAv9iYlJ1uQnoAAVvIZQAAAMKIgXCxxGf7AgAAAAAEWVo=",
);

function stream(bytes: Uint8Array, chunk = 100) {
  let at = 0;
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(new Uint8Array(bytes.slice(at, at + chunk)));
      at += chunk;
    },
  });
}

async function all(bytes: Uint8Array, limit?: number, chunk?: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const options = { name: "test data", ...(limit === undefined ? {} : { limit }) };
  for await (const part of decompress(stream(bytes, chunk), options)) parts.push(part);
  return Buffer.concat(parts);
}

const untrusted = (pattern: RegExp) => (error: unknown) =>
  error instanceof CloudletError && error.code === "untrusted" && pattern.test(error.message);

Deno.test("every format is told by its first bytes and decompressed", async () => {
  const bytes = new TextEncoder().encode(TEXT);
  const packed = { xz: XZ, gzip: gzipSync(bytes), zstd: zstdCompressSync(bytes), none: bytes };
  for (const [format, data] of Object.entries(packed)) {
    assert.equal(detectCompression(data), format);
    assert.equal((await all(data)).toString(), TEXT, format);
  }
});

Deno.test("any bytes come back, however they are cut into chunks", async () => {
  const data = fc.uint8Array({ maxLength: 3000 });
  await fc.assert(
    fc.asyncProperty(data, fc.integer({ min: 1, max: 700 }), async (bytes, chunk) => {
      assert.deepEqual(new Uint8Array(await all(gzipSync(bytes), undefined, chunk)), bytes);
      assert.deepEqual(new Uint8Array(await all(zstdCompressSync(bytes), undefined, chunk)), bytes);
    }),
    { numRuns: 30 },
  );
});

Deno.test({
  name: "what xz packs, in several blocks and with every kind of check, comes back",
  ignore: !hasCommand("xz"),
  fn: async () => {
    using directory = testDirectory();
    const path = join(directory.path, "data");
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    await Deno.writeFile(path, Buffer.concat([bytes, Buffer.alloc(3_000_000), bytes]));
    const expected = await Deno.readFile(path);
    for (const options of [["-0"], ["-9e"], ["--check=crc32"], ["--block-size=500000", "-T2"]]) {
      const packed = await command("xz", "-k", "-c", ...options, path);
      assert.deepEqual(new Uint8Array(await all(packed, undefined, 65536)), expected);
    }
  },
});

Deno.test("damaged and truncated data are refused, in every format", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(20_000));
  for (const packed of [XZ, gzipSync(bytes), zstdCompressSync(bytes)]) {
    for (const missing of [1, 3, 7, 20, 140]) {
      await assert.rejects(
        all(packed.slice(0, packed.length - missing)),
        untrusted(/^Cannot decompress test data \(\w+\): it is damaged or truncated/),
      );
    }
  }
  for (const packed of [XZ, gzipSync(bytes)]) {
    const damaged = packed.slice();
    for (let i = 30; i < 50; i++) damaged[i]! ^= 0x55;
    await assert.rejects(all(damaged), untrusted(/damaged/));
  }
});

Deno.test("zstd frames are followed through skippable ones, checksums and any block", async () => {
  const frames = [
    zstdCompressSync(new Uint8Array(0)),
    Buffer.from([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]), // skippable
    zstdCompressSync(Buffer.alloc(300_000), { // RLE blocks
      params: { [constants.ZSTD_c_checksumFlag]: 1, [constants.ZSTD_c_contentSizeFlag]: 0 },
    }),
    zstdCompressSync(crypto.getRandomValues(new Uint8Array(50_000))), // raw blocks
    zstdCompressSync(TEXT),
  ];
  const whole = Buffer.concat(frames);
  const ends = new Set<number>([0]);
  let end = 0;
  for (const frame of frames) {
    end += frame.length;
    ends.add(end);
    // This compressor puts an empty frame behind long data.
    if (frame.subarray(-9).toString("hex") === "28b52ffd2000010000") ends.add(end - 9);
  }
  const found = new Set<number>([0]);
  for (let at = 0; at < whole.length;) {
    const walker = new ZstdFrames();
    // In pieces of any length, and never beyond the end of the frame.
    do at += walker.push(whole.subarray(at, at + 1 + at % 1000)); while (!walker.complete);
    found.add(at);
  }
  assert.deepEqual([...found].sort(), [...ends].sort());
  for (const chunk of [7, 1000, whole.length]) {
    assert.equal((await all(whole, undefined, chunk)).length, 350_000 + TEXT.length);
  }
});

Deno.test("more than the limit is refused, and the decoder is free afterwards", async () => {
  for (let i = 0; i < 3; i++) {
    await assert.rejects(all(XZ, TEXT.length - 1), untrusted(/more than 12999 bytes come out/));
    assert.equal((await all(XZ, TEXT.length)).toString(), TEXT);
  }
});

Deno.test("bzip2 is refused by name", async () => {
  await assert.rejects(all(Buffer.from("BZh91AY&SY")), untrusted(/bzip2.*not supported/));
});

Deno.test("an error of the input is passed on as it is", async () => {
  const broken = new Error("the cable was cut");
  const input = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start: (controller) => controller.enqueue(new Uint8Array(gzipSync(TEXT).subarray(0, 30))),
    pull: (controller) => controller.error(broken),
  });
  await assert.rejects(async () => {
    for await (const _ of decompress(input, { name: "x" }));
  }, (error) => error === broken);
});

Deno.test("the pool decompresses a part of a file into another, many at once", async () => {
  using directory = testDirectory();
  const source = join(directory.path, "source");
  await Deno.writeFile(source, Buffer.concat([Buffer.from("before"), XZ, Buffer.from("behind")]));
  using pool = new DecompressPool(2);
  const goals = Array.from({ length: 5 }, (_, i) => join(directory.path, "goals", `${i}`));
  const sizes = await Promise.all(
    goals.map((goal) =>
      pool.decompress({ source, offset: 6, size: XZ.length, name: "part" }, goal)
    ),
  );
  assert.deepEqual(sizes, goals.map(() => TEXT.length));
  for (const goal of goals) assert.equal(await Deno.readTextFile(goal), TEXT);
  assert.equal([...Deno.readDirSync(join(directory.path, "goals"))].length, goals.length);
});

Deno.test("the pool leaves nothing behind when data are damaged, and goes on", async () => {
  using directory = testDirectory();
  const source = join(directory.path, "source");
  await Deno.writeFile(source, XZ);
  const goals = join(directory.path, "goals");
  using pool = new DecompressPool(1);
  const request = { source, size: XZ.length - 9, name: "the package" };
  await assert.rejects(
    pool.decompress(request, join(goals, "bad")),
    untrusted(/Cannot decompress the package \(xz\)/),
  );
  assert.deepEqual([...Deno.readDirSync(goals)], []);
  assert.equal(
    await pool.decompress({ ...request, size: XZ.length }, join(goals, "good")),
    TEXT.length,
  );
});

Deno.test("the pool stops in the middle when told to, and leaves nothing behind", async () => {
  using directory = testDirectory();
  const source = join(directory.path, "source");
  // A gigabyte of zeros: long enough to be under way still.
  const packed = gzipSync(Buffer.alloc(16 << 20));
  await Deno.writeFile(source, Buffer.concat(Array.from({ length: 64 }, () => packed)));
  const goals = join(directory.path, "goals");
  using pool = new DecompressPool(1);
  const abort = new AbortController();
  const request = { source, size: packed.length * 64, name: "much" };
  const running = pool.decompress(request, join(goals, "goal"), abort.signal);
  const queued = pool.decompress(request, join(goals, "queued"), abort.signal);
  const stopped = Promise.allSettled([running, queued]);
  // What is not finished yet is in a directory of its owner's.
  const begun = ({ name }: Deno.DirEntry) => [...Deno.readDirSync(join(goals, name))].length > 0;
  while (![...Deno.readDirSync(goals)].some(begun)) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  abort.abort();
  for (const result of await stopped) {
    assert.ok(result.status === "rejected");
    assert.equal((result.reason as CloudletError).code, "cancelled");
  }
  assert.deepEqual([...Deno.readDirSync(goals)], []);
});

Deno.test("damage is told as such, though the source still has something when the decoder gives up", async () => {
  const damaged = new Uint8Array(gzipSync("some text"));
  damaged[2] = 99; // no such method
  for (const later of [undefined, Uint8Array.of(1, 2, 3)]) {
    const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => controller.enqueue(damaged),
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (later === undefined) controller.close();
        else controller.enqueue(later);
      },
    });
    await assert.rejects(
      Array.fromAsync(decompress(stream, { name: "data" })),
      (error) => error instanceof CloudletError && error.code === "untrusted",
    );
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
});

Deno.test({
  name: "what was decompressed for keeps is whole after a power cut",
  ignore: Deno.uid() !== 0, // a file system has to be mounted
  fn: async () => {
    using directory = testDirectory();
    const source = join(directory.path, "packed");
    const bytes = crypto.getRandomValues(new Uint8Array(50_000));
    const packed = gzipSync(bytes);
    await Deno.writeFile(source, packed);
    await acrossPowerLoss(async (disk) => {
      using pool = new DecompressPool(1);
      await pool.decompress({ source, size: packed.length, name: "x" }, join(disk, "goal"));
    }, async (disk) => {
      assert.ok(Buffer.from(bytes).equals(await Deno.readFile(join(disk, "goal"))));
    });
  },
});
