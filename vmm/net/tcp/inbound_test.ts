import assert from "node:assert/strict";
import fc from "fast-check";
import { Inbound } from "./inbound.ts";
import { ReceiveWindow } from "./receive_window.ts";
import { advance, distance } from "./sequence.ts";
import type { Output } from "./types.ts";

/** Segments of a stream that begins at `start`, as they come to a queue that nobody reads. */
function arrive(
  start: number,
  stream: Uint8Array,
  capacity: number,
  segments: readonly { readonly at: number; readonly length: number }[],
) {
  const window = new ReceiveWindow(start, capacity);
  window.offer(0);
  const got: number[] = [];
  let segment = new Uint8Array(0);
  let kept = 0;
  const output = {
    take: (from: number, to: number) => got.push(...segment.subarray(from, to)) && to - from,
    keep(from: number, to: number) {
      kept += to - from;
      return segment.slice(from, to);
    },
    takeKept: (bytes: Uint8Array) => got.push(...bytes) && bytes.length,
  } as unknown as Output;
  const inbound = new Inbound(window, output);
  let ended = false;
  for (const { at, length } of segments) {
    segment = stream.slice(at, at + length);
    if (!window.accepts(advance(start, at), segment.length)) continue;
    const fin = at + segment.length === stream.length;
    ended ||= inbound.take(advance(start, at), segment.length, fin);
    assert(got.length + inbound.waiting <= capacity, "more waits than was promised");
  }
  return { got, ended, kept, inbound, window };
}

const STREAM = Uint8Array.from({ length: 500 }, (_, i) => i * 7 + (i >> 8));

Deno.test("segments in any order and over each other are the stream, each byte once", () => {
  const piece = fc.record({ at: fc.nat(499), length: fc.integer({ min: 1, max: 120 }) });
  const starts = fc.constantFrom(0, 0xffff_ff00, 0x7fff_ff80);
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 80 }), starts, (pieces, start) => {
      const { got, ended, inbound, window } = arrive(start, STREAM, 1000, pieces);
      // Byte by byte, by the words of RFC 9293: what has come without a gap.
      const come = STREAM.map((_, i) =>
        Number(pieces.some(({ at, length }) => i >= at && i < at + length))
      );
      const end = come.indexOf(0) < 0 ? STREAM.length : come.indexOf(0);
      assert.deepEqual(got, [...STREAM.subarray(0, end)]);
      assert.equal(ended, end === STREAM.length);
      const later = come.subarray(end).filter((byte) => byte === 1).length;
      assert.equal(inbound.waiting, later, "what waits is what has come behind the gap, once");
      assert.equal(distance(window.expected, start), end);
    }),
    { numRuns: 500 },
  );
});

Deno.test("what is early is kept within the window and to a number of pieces", () => {
  const beyond = arrive(1, STREAM, 300, [{ at: 100, length: 400 }, { at: 290, length: 100 }]);
  assert.equal(beyond.inbound.waiting, 200);
  const stream = new Uint8Array(2000);
  const pieces = Array.from({ length: 900 }, (_, i) => ({ at: 2 + 2 * i, length: 1 }));
  const many = arrive(1, stream, 4000, pieces);
  assert.equal(many.inbound.waiting, 256);
  const same = arrive(1, stream, 4000, Array(50).fill({ at: 100, length: 1000 }));
  assert.equal(same.kept, 1000, "what is there is not copied again");
});
