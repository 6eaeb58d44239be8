import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import fc from "fast-check";
import { oracle } from "../../test/oracle.ts";
import { detectCompression } from "./decompress.ts";
import { command, testDirectory } from "./fixtures_test.ts";
import { lz4Legacy } from "./lz4.ts";

const MAGIC = [0x02, 0x21, 0x4c, 0x18];

async function unpack(packed: Uint8Array, chunk = 1000): Promise<Uint8Array> {
  let at = 0;
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= packed.length) return controller.close();
      controller.enqueue(packed.slice(at, at += chunk));
    },
  });
  return new Uint8Array(Buffer.concat(await Array.fromAsync(lz4Legacy(stream))));
}

function frame(...blocks: readonly (readonly number[])[]): Uint8Array {
  const sized = blocks.map((block) => [
    ...[block.length & 0xff, block.length >>> 8 & 0xff, block.length >>> 16, 0],
    ...block,
  ]);
  return Uint8Array.from([...MAGIC, ...sized.flat()]);
}

/** A sequence that holds literals only. */
function literals(bytes: Uint8Array): number[] {
  if (bytes.length < 15) return [bytes.length << 4, ...bytes];
  const rest = bytes.length - 15;
  return [0xf0, ...new Array(Math.floor(rest / 255)).fill(255), rest % 255, ...bytes];
}

Deno.test("literals of any length come back, however the stream is cut", async () => {
  const cut = fc.integer({ min: 1, max: 400 });
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 800 })), cut, async (parts, chunk) => {
      const packed = frame(...parts.map(literals));
      assert.equal(detectCompression(packed), "lz4");
      assert.deepEqual(await unpack(packed, chunk), new Uint8Array(Buffer.concat(parts)));
    }),
  );
});

Deno.test("a match repeats what was written, also what it is just writing", async () => {
  const text = async (...block: number[]) => new TextDecoder().decode(await unpack(frame(block)));
  const [a, b, c] = [0x61, 0x62, 0x63];
  assert.equal(await text(0x30, a, b, c, 3, 0, 0x00), "abcabca"); // offset 3, length 4
  assert.equal(await text(0x1f, a, 1, 0, 6, 0x10, b), `${"a".repeat(26)}b`); // 15 + 6 + 4 more
});

Deno.test("an LZ4 block that reads or writes beyond its bounds is refused", async () => {
  const cases: [RegExp, number[]][] = [
    [/begins before the block/, [0x10, 0x61, 2, 0, 0x00]],
    [/begins before the block/, [0x10, 0x61, 0, 0, 0x00]],
    [/literals are cut off/, [0x50, 0x61]],
    [/offset is cut off/, [0x10, 0x61, 1]],
    [/length is cut off/, [0xf0, 255, 255]],
    [/last sequence has a match/, [0x10, 0x61, 1, 0]],
    // 0x8081 * 255 bytes are more than 8 MiB
    [/more than a block/, [0x1f, 0x61, 1, 0, ...new Array(0x8081).fill(255), 0, 0x00]],
  ];
  for (const [why, block] of cases) await assert.rejects(unpack(frame(block)), why);
  await assert.rejects(unpack(frame([0x10, 0x61]).subarray(0, -1)), /unexpected end/);
  await assert.rejects(unpack(Uint8Array.of(...MAGIC, 0xff, 0xff, 0xff, 0x7f)), /too long/);
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
    // Whatever it is: bytes come out or an error is thrown.
    await unpack(frame([...bytes])).then((out) => assert.ok(out.length <= 8 << 20), (error) => {
      assert.ok(error instanceof Error && !(error instanceof RangeError), String(error));
    });
  }));
});

Deno.test("what lz4 packs in legacy frames of several blocks comes back", async () => {
  if (!await oracle("lz4")) return;
  using directory = testDirectory();
  const path = join(directory.path, "data");
  const random = crypto.getRandomValues(new Uint8Array(60_000));
  const line = new TextEncoder().encode("module virtio_mmio is a platform driver\n");
  const mixed = Array.from({ length: 250_000 }, (_, i) => i % 40 ? line : random.subarray(i % 977));
  await Deno.writeFile(path, Buffer.concat([random, ...mixed.map((b) => b.subarray(0, 900))]));
  const expected = await Deno.readFile(path);
  assert.ok(expected.length > 8 << 20); // more than one block
  for (const level of ["-1", "-9"]) {
    const packed = await command("lz4", "-l", "-c", level, path);
    const unpacked = await unpack(packed, 65536);
    assert.equal(Buffer.compare(unpacked, expected), 0);
  }
});
