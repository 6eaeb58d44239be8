import assert from "node:assert/strict";
import fc from "fast-check";
import { _IOR, _IOWR } from "./ioctl.ts";
import { array, bytes, i32, i64, layout, struct, u16, u32, u64, u8, union } from "./struct.ts";

const mixed = struct("mixed", { a: u8, b: u32, c: u16, d: u64, e: i32 });

Deno.test("members are aligned as C aligns them, and packed ones are not", () => {
  assert.deepEqual(mixed.offsets, { a: 0, b: 4, c: 8, d: 16, e: 24 });
  assert.equal(mixed.size, 32);
  const packed = struct("packed", mixed.members, { packed: true });
  assert.deepEqual(packed.offsets, { a: 0, b: 1, c: 5, d: 7, e: 15 });
  assert.equal(packed.size, 19);
});

Deno.test("a union is as large as its largest member and as aligned as its strictest", () => {
  const both = union("both", { small: u64, large: bytes(13) });
  assert.deepEqual(both.offsets, { small: 0, large: 0 });
  assert.equal(both.size, 16);
  const outer = struct("outer", { tag: u8, both });
  assert.equal(outer.offsetOf("both.small"), 8);
});

Deno.test("values come back as they were written", () => {
  const type = struct("all", {
    u8,
    u16,
    u32,
    u64,
    i32,
    i64,
    list: array(u16, 3),
    raw: bytes(5),
    inner: mixed,
  });
  const whole = (bits: number) => fc.bigInt({ min: 0n, max: (1n << BigInt(bits)) - 1n });
  const number = (bits: number) => whole(bits).map(Number);
  const signed = (bits: number) => whole(bits).map((value) => BigInt.asIntN(bits, value));
  fc.assert(fc.property(
    fc.record({
      u8: number(8),
      u16: number(16),
      u32: number(32),
      u64: whole(64),
      i32: signed(32).map(Number),
      i64: signed(64),
      list: fc.array(number(16), { minLength: 3, maxLength: 3 }),
      raw: fc.uint8Array({ minLength: 5, maxLength: 5 }),
      inner: fc.record({
        a: number(8),
        b: number(32),
        c: number(16),
        d: whole(64),
        e: signed(32).map(Number),
      }, { noNullPrototype: true }),
    }, { noNullPrototype: true }),
    (value) => {
      const decoded = type.decode(type.encode(value));
      assert.deepEqual({ ...decoded, raw: [...decoded.raw] }, { ...value, raw: [...value.raw] });
    },
  ));
});

Deno.test("what does not fit is refused", () => {
  assert.throws(
    () => struct("s", { raw: bytes(2) }).encode({ raw: new Uint8Array(3) }),
    RangeError,
  );
  assert.throws(() => struct("s", { list: array(u8, 1) }).encode({ list: [1, 2] }), RangeError);
  assert.throws(() => mixed.decode(new Uint8Array(mixed.size - 1)), RangeError);
  assert.throws(() => mixed.encode({ nothing: 1 } as never), TypeError);
  assert.throws(() => mixed.offsetOf("a.b"), TypeError);
  assert.throws(() => layout("l", 4, { beyond: [1, u32] }), RangeError);
});

Deno.test("an ioctl number holds direction, size, type and number", () => {
  // include/uapi/linux/fs.h: FS_IOC_GETVERSION is _IOR('v', 1, long)
  assert.equal(_IOR("FS_IOC_GETVERSION", 0x76, 1, u64).request, 0x8008_7601);
  assert.equal(_IOWR("HIGHEST", 0xff, 0xff, bytes(0x3fff)).request, 0xffff_ffff);
});
