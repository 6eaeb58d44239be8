import assert from "node:assert/strict";
import fc from "fast-check";
import { addressOf } from "./mapping.ts";
import { MAX_PIECES, Pieces } from "./pieces.ts";

const MEMORY = Uint8Array.from({ length: 4096 }, (_, i) => i * 7);

/** Pieces of the memory, and what they are as one run of bytes. */
function scattered(cuts: readonly (readonly [number, number])[]) {
  const pieces = new Pieces();
  const bytes: number[] = [];
  for (const [at, length] of cuts) {
    pieces.add(addressOf(MEMORY) + at, length);
    bytes.push(...MEMORY.subarray(at, at + length));
  }
  return { pieces, bytes: Uint8Array.from(bytes) };
}

Deno.test("pieces read, written, cut and copied are as the run of bytes that they make", () => {
  const cut = fc.tuple(fc.nat(2000), fc.nat(300));
  fc.assert(
    fc.property(fc.array(cut, { maxLength: 8 }), fc.nat(1200), fc.nat(1200), (cuts, from, size) => {
      const { pieces, bytes } = scattered(cuts);
      assert.equal(pieces.length, bytes.length);
      const target = new Uint8Array(size);
      const count = pieces.read(target, from);
      assert.deepEqual(target.subarray(0, count), bytes.subarray(from, from + size));
      const part = pieces.slice(from, size, new Pieces());
      assert.deepEqual(part.bytes(), bytes.slice(from, from + size));
      pieces.truncate(size);
      assert.deepEqual(pieces.bytes(), bytes.slice(0, size));
    }),
  );
});

Deno.test("what is written to pieces lands in them and nowhere else", () => {
  const memory = new Uint8Array(4096);
  const pieces = new Pieces();
  for (const [at, length] of [[100, 3], [50, 0], [10, 2], [200, 100]] as const) {
    pieces.add(addressOf(memory) + at, length);
  }
  assert.equal(pieces.write(Uint8Array.of(1, 2, 3, 4, 5, 6), 1), 6);
  const landed = [...memory.entries()].filter(([, byte]) => byte !== 0);
  assert.deepEqual(landed, [[10, 3], [11, 4], [101, 1], [102, 2], [200, 5], [201, 6]]);
  assert.equal(pieces.write(new Uint8Array(200)), 105);
});

Deno.test("pieces are struct iovec[], also above 4 GiB, and bounded", () => {
  const pieces = new Pieces(2);
  pieces.add(0x7fff_1234_5678, 9);
  const view = new DataView(pieces.array.buffer);
  assert.deepEqual([view.getBigUint64(0, true), view.getBigUint64(8, true)], [
    0x7fff_1234_5678n,
    9n,
  ]);
  pieces.add(1, 1);
  assert(pieces.isFull);
  assert.throws(() => pieces.add(1, 1), RangeError);
  assert.equal(MAX_PIECES, 1024);
});
