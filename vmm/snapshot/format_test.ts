import assert from "node:assert/strict";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { decodeState, encodeState, FORMAT_VERSION, jsonPiece, piece } from "./format.ts";

const pieces = new Map([
  ["facts", new TextEncoder().encode('{"a":1}')],
  ["vcpu0.regs", Uint8Array.of(1, 2, 3)],
  ["empty", new Uint8Array()],
]);

function reason(file: Uint8Array<ArrayBuffer>): string {
  try {
    decodeState(file);
  } catch (error) {
    assert.ok(error instanceof CloudletError, String(error));
    return error.message;
  }
  return "";
}

Deno.test("a state file gives back the pieces that were put in", () => {
  fc.assert(fc.property(
    fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9.]{0,20}$/), fc.uint8Array({ maxLength: 300 })),
    (object) => {
      const given = new Map(Object.entries(object).map(([k, v]) => [k, new Uint8Array(v)]));
      assert.deepEqual(new Map(decodeState(encodeState(given))), given);
    },
  ));
});

Deno.test("no truncated and no flipped state file is accepted", () => {
  const file = encodeState(pieces);
  fc.assert(fc.property(
    fc.nat(file.length - 1),
    fc.nat(7),
    (at, bit) => {
      const flipped = file.slice();
      flipped[at]! ^= 1 << bit;
      assert.notEqual(reason(flipped), "");
      assert.notEqual(reason(file.slice(0, at)), "");
    },
  ));
  assert.notEqual(reason(new Uint8Array([...file, 0])), "");
});

Deno.test("another version is refused by its number, another kind of file as such", () => {
  const file = encodeState(pieces);
  new DataView(file.buffer).setUint32(16, FORMAT_VERSION + 1, true);
  assert.match(reason(file), new RegExp(`format version ${FORMAT_VERSION + 1}`));
  assert.match(reason(new Uint8Array(100)), /another kind/);
});

Deno.test("a piece that is missing or has another size is refused by name", () => {
  const decoded = decodeState(encodeState(pieces));
  assert.deepEqual(jsonPiece(decoded, "facts"), { a: 1 });
  assert.throws(() => piece(decoded, "vm.pit"), /it has no vm.pit/);
  assert.throws(() => piece(decoded, "vcpu0.regs", 4), /its vcpu0.regs has another size/);
  assert.throws(() => jsonPiece(decoded, "vcpu0.regs"), /not JSON/);
});
