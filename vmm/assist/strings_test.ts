import assert from "node:assert/strict";
import fc from "fast-check";
import { GuestMemory } from "../memory/guest_memory.ts";
import { doString, type StringOperation, STRINGS_LIMIT, STRINGS_SIZE } from "./strings.ts";

const PAGE = 4096;
const MIB = 1024 * 1024;
const AREA = 64 * STRINGS_SIZE;
const PRESENT = 1n, WRITABLE = 2n, ACCESSED = 32n, DIRTY = 64n;
/** Linear address of the first page of {@linkcode PLACES}. */
const LINEAR = 0xffff_8880_0000_0000n;
const TABLES = [0x1000, 0x2000, 0x3000, 0x4000] as const;

/** A machine in which linear pages lie at the given frames; undefined for one that is missing. */
function machine(frames: readonly (number | undefined)[], readOnly: readonly number[] = []) {
  const memory = GuestMemory.create(4 * MIB);
  for (const [level, table] of TABLES.slice(0, 3).entries()) {
    const index = Number(LINEAR >> BigInt(39 - 9 * level) & 0x1ffn);
    memory.setBigUint64(table + 8 * index, BigInt(TABLES[level + 1]!) | PRESENT | WRITABLE);
  }
  for (const [i, frame] of frames.entries()) {
    if (frame === undefined) continue;
    const flags = PRESENT | (readOnly.includes(i) ? 0n : WRITABLE);
    memory.setBigUint64(TABLES[3] + 8 * i, BigInt(frame * PAGE) | flags);
  }
  const ask = (operation: StringOperation, to: bigint, from: bigint, count: bigint) => {
    memory.setBigUint64(AREA, to);
    memory.setBigUint64(AREA + 8, from);
    memory.setBigUint64(AREA + 16, count);
    memory.setBigUint64(AREA + 24, BigInt(TABLES[0]));
    doString(memory, operation, AREA / STRINGS_SIZE);
    return memory.getBigUint64(AREA + 16);
  };
  const entry = (i: number) => memory.getBigUint64(TABLES[3] + 8 * i);
  return { memory, ask, entry, [Symbol.dispose]: () => memory[Symbol.dispose]() };
}

/** Eight pages that follow each other, in frames that do not. */
const PLACES = [40, 33, 38, 35, 36, 32, 39, 34];

/** What the pages hold, in the order of their linear addresses. */
function content(memory: GuestMemory): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(PLACES.length * PAGE);
  for (const [i, frame] of PLACES.entries()) bytes.set(memory.read(frame * PAGE, PAGE), i * PAGE);
  return bytes;
}

Deno.test("what the host copies and fills is what the instructions would have", () => {
  const offset = fc.nat(PLACES.length / 2 * PAGE - 1);
  fc.assert(
    fc.property(
      fc.boolean(),
      offset,
      offset,
      offset,
      fc.nat(255),
      (copies, to, from, count, value) => {
        using guest = machine(PLACES);
        const before = crypto.getRandomValues(new Uint8Array(PLACES.length * PAGE));
        PLACES.forEach((frame, i) =>
          guest.memory.write(frame * PAGE, before.slice(i * PAGE, (i + 1) * PAGE))
        );
        from += PLACES.length / 2 * PAGE; // where they do not overlap
        const second = copies ? LINEAR + BigInt(from) : BigInt(value);
        count = Math.min(count, PLACES.length * PAGE - from);
        const left = guest.ask(
          copies ? "copy" : "fill",
          LINEAR + BigInt(to),
          second,
          BigInt(count),
        );
        assert.equal(left, 0n);
        if (copies) before.copyWithin(to, from, from + count);
        else before.fill(value, to, to + count);
        assert.deepEqual(content(guest.memory), before);
      },
    ),
    { numRuns: 50 },
  );
});

Deno.test("the host stops where the processor would fault, and marks what it touched", () => {
  const cases: [StringOperation, (number | undefined)[], number[]][] = [
    ["fill", [40, undefined], []], // no page
    ["fill", [40, 33], [1]], // copy on write
    ["fill", [40, 2000], []], // no memory
    ["copy", [40, undefined, 42, 43], []],
    ["copy", [40, 33, 42, undefined], []],
  ];
  for (const [operation, frames, readOnly] of cases) {
    using guest = machine(frames, readOnly);
    guest.memory.write(42 * PAGE, new Uint8Array(PAGE).fill(7));
    const from = operation === "copy" ? LINEAR + BigInt(2 * PAGE) : 7n;
    const left = guest.ask(
      operation,
      LINEAR + 16n,
      from + (operation === "copy" ? 16n : 0n),
      8000n,
    );
    assert.equal(left, 8000n - BigInt(PAGE - 16), `${operation} ${frames}`);
    const page = guest.memory.read(40 * PAGE, PAGE);
    assert.ok(page.subarray(0, 16).every((byte) => byte === 0));
    assert.ok(page.subarray(16).every((byte) => byte === 7));
    assert.equal(guest.entry(0) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    if (operation === "copy") assert.equal(guest.entry(2) & (ACCESSED | DIRTY), ACCESSED);
  }
});

Deno.test("a request from anywhere, for any amount, ends soon and harms nothing", () => {
  using guest = machine(PLACES);
  for (const where of [0xffff_ffff, 4 * MIB / STRINGS_SIZE, 4 * MIB / STRINGS_SIZE - 1]) {
    doString(guest.memory, "fill", where);
  }
  // Each table leads to the next one only: all of the address space is one frame.
  for (const [level, table] of TABLES.entries()) {
    const next = BigInt(TABLES[level + 1] ?? 40 * PAGE) | PRESENT | WRITABLE;
    for (let i = 0; i < 512; i++) guest.memory.setBigUint64(table + 8 * i, next);
  }
  const all = 2n ** 64n - 1n;
  assert.equal(all - guest.ask("fill", LINEAR, 7n, all), BigInt(STRINGS_LIMIT));
  assert.equal(all - guest.ask("copy", LINEAR, 0n, all), BigInt(STRINGS_LIMIT));
});
