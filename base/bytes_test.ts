import assert from "node:assert/strict";
import { concatBytes, strictUtf8 } from "./bytes.ts";

Deno.test("parts come one after the other, arrays of numbers and empty ones included", () => {
  assert.deepEqual(concatBytes([]), new Uint8Array(0));
  assert.deepEqual(
    concatBytes([Uint8Array.of(1, 2), [], [3], new Uint8Array(0), Uint8Array.of(4)]),
    Uint8Array.of(1, 2, 3, 4),
  );
  const only = Uint8Array.of(1);
  assert.notEqual(concatBytes([only]), only); // never the caller's own memory
});

Deno.test("text is exactly the bytes, or none", () => {
  for (const text of ["", "äöü €😀", "\ufeffmarked", "a\0b"]) {
    assert.equal(strictUtf8.decode(new TextEncoder().encode(text)), text);
  }
  for (const bytes of [[0xff], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80]]) {
    assert.throws(() => strictUtf8.decode(Uint8Array.from(bytes)), TypeError);
  }
});
