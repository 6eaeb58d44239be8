import assert from "node:assert/strict";
import type { DeviceState } from "./device.ts";
import { savedNumber } from "./saved.ts";

Deno.test("a number of a snapshot is one that the device can have, or none", () => {
  assert.equal(savedNumber({ a: 7 }, "a", 8), 7);
  assert.ok(Object.is(savedNumber({ a: -0 }, "a", 8), 0));
  const bad: (DeviceState | undefined)[] = [undefined, null, 7, "a", [], {}, { a: 8 }, { a: -1 }];
  for (const state of [...bad, { a: 0.5 }, { a: "1" }, { a: null }]) {
    assert.throws(() => savedNumber(state, "a", 8), RangeError);
  }
});
