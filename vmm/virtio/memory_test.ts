import assert from "node:assert/strict";
import { MMIO_GAP_END, MMIO_GAP_START } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { RamView } from "./memory.ts";

const MIB = 1 << 20;
const bytes = (...values: number[]) => Uint8Array.from(values);

Deno.test("RAM above the gap follows RAM below it, and nothing reaches across", () => {
  using memory = GuestMemory.create(MMIO_GAP_START + MIB);
  using ram = new RamView(memory.description);
  assert.equal(ram.offsetOf(MMIO_GAP_START - 4, 4), MMIO_GAP_START - 4);
  assert.equal(ram.offsetOf(MMIO_GAP_END, MIB), MMIO_GAP_START);
  assert.equal(ram.offsetOf(MMIO_GAP_START - 4, 5), -1);
  assert.equal(ram.offsetOf(MMIO_GAP_START, 1), -1);
  assert.equal(ram.offsetOf(MMIO_GAP_END - 1, 2), -1);
  assert.equal(ram.offsetOf(MMIO_GAP_END + 1, MIB), -1);
  ram.write(ram.offsetOf(MMIO_GAP_END + 8, 3), bytes(1, 2, 3));
  assert.deepEqual(memory.read(MMIO_GAP_END + 8, 3), bytes(1, 2, 3));
});

Deno.test("what is copied is what the guest sees, and nothing outside of RAM is touched", () => {
  using memory = GuestMemory.create(MIB);
  using ram = new RamView(memory.description);
  memory.write(MIB - 2, bytes(7, 8));
  const target = bytes(0, 0);
  ram.read(MIB - 2, target);
  assert.deepEqual(target, bytes(7, 8));
  ram.write(0, new Uint8Array(0));
  for (const offset of [-1, MIB - 1, MIB, 2 ** 60, NaN]) {
    assert.throws(() => ram.read(offset, target), RangeError);
    assert.throws(() => ram.write(offset, target), RangeError);
    assert.throws(() => ram.window(offset, 2), RangeError);
  }
});

Deno.test("a window is live, and ends with its release or with the view", () => {
  using memory = GuestMemory.create(MIB);
  const ram = new RamView(memory.description);
  const [one, other] = [ram.window(16, 4), ram.window(16, 4)];
  memory.write(16, bytes(1, 2, 3, 4));
  other[1] = 9;
  assert.deepEqual(one, bytes(1, 9, 3, 4));
  ram.release(one);
  assert.equal(one.length, 0);
  assert.equal(other.length, 4);
  ram[Symbol.dispose]();
  assert.equal(other.length, 0);
  assert.throws(() => ram.read(0, bytes(0)), RangeError);
});
