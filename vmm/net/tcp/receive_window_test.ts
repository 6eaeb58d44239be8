import assert from "node:assert/strict";
import fc from "fast-check";
import { ReceiveWindow } from "./receive_window.ts";
import { advance } from "./sequence.ts";

Deno.test("what waits never exceeds the queue, however small the segments are", () => {
  const capacity = 4000;
  const window = new ReceiveWindow(5, capacity);
  let waiting = 0;
  for (let i = 0; i < 10_000; i++) {
    window.offer(7);
    const fresh = window.take(window.expected, 1);
    waiting += fresh!.to - fresh!.from;
    window.queued(fresh!.to - fresh!.from);
  }
  assert(waiting <= capacity, `${waiting} bytes wait`);
});

Deno.test("a byte that was promised is taken, and the window is in the queue's bounds", () => {
  const step = fc.record({
    send: fc.nat(700),
    write: fc.nat(700),
    shift: fc.constantFrom(0, 7, 14),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(0xffff_ffff), (steps, start) => {
      const window = new ReceiveWindow(start, 4000);
      let promised = start;
      for (const { send, write, shift } of steps) {
        const told = window.offer(shift) << shift;
        const edge = advance(window.expected, told);
        if (((edge - promised) | 0) > 0) promised = edge;
        const length = Math.min(send, (promised - window.expected) | 0);
        const fresh = window.take(window.expected, length)!;
        assert.deepEqual(fresh, { from: 0, to: length });
        window.queued(length);
        assert(window.waiting <= 4000);
        window.written(Math.min(write, window.waiting));
      }
    }),
  );
});
