import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { join } from "node:path";
import { alignElf } from "./elf_align.ts";

const HUGE = 2 * 1024 * 1024;
const PT_LOAD = 1;

interface Load {
  offset: number;
  address: number;
  size: number;
  memorySize: number;
  flags: number;
  alignment: number;
}

function loadsOf(file: Uint8Array): Load[] {
  const view = new DataView(file.buffer, file.byteOffset);
  const number = (at: number) => Number(view.getBigUint64(at, true));
  return Array.from({ length: view.getUint16(56, true) }, (_, i) => 64 + i * 56)
    .filter((at) => view.getUint32(at, true) === PT_LOAD)
    .map((at) => ({
      offset: number(at + 8),
      address: number(at + 16),
      size: number(at + 32),
      memorySize: number(at + 40),
      flags: view.getUint32(at + 4, true),
      alignment: number(at + 48),
    }));
}

/** An executable with these segments, one page apart in the file, each filled with its number. */
function elf(segments: { address: number; size: number; flags: number }[]): Uint8Array {
  let end = 0x1000;
  const placed = segments.map((segment) => {
    const offset = end - end % 4096 + segment.address % 4096 + (end % 4096 > 0 ? 4096 : 0);
    end = offset + segment.size;
    return { ...segment, offset };
  });
  placed[0]!.offset = 0;
  const file = new Uint8Array(end);
  const view = new DataView(file.buffer);
  placed.forEach(({ offset, size }, i) => file.fill(i + 1, offset, offset + size));
  file.fill(0, 0, 64 + segments.length * 56);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, 62, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, segments.length, true);
  placed.forEach(({ offset, address, size, flags }, i) => {
    const at = 64 + i * 56;
    view.setUint32(at, PT_LOAD, true);
    view.setUint32(at + 4, flags, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, BigInt(address), true);
    view.setBigUint64(at + 32, BigInt(size), true);
    view.setBigUint64(at + 40, BigInt(size), true);
    view.setBigUint64(at + 48, 4096n, true);
  });
  return file;
}

/** Fails unless every byte that `before` puts into memory is put there by `after` too. */
function assertSameMemory(before: Uint8Array, after: Uint8Array): void {
  const newLoads = loadsOf(after);
  loadsOf(before).forEach((load, index) => {
    const moved = newLoads[index]!;
    assert.equal(moved.flags, load.flags);
    assert.ok(moved.address <= load.address);
    assert.ok(moved.address + moved.size >= load.address + load.size);
    assert.ok(moved.address + moved.memorySize >= load.address + load.memorySize);
    const skip = index === 0 ? 64 + newLoads.length * 56 + 4096 : 0; // the headers differ
    const offset = moved.offset + load.address - moved.address;
    const old = before.subarray(load.offset + skip, load.offset + load.size);
    assert.equal(Buffer.compare(after.subarray(offset + skip, offset + load.size), old), 0);
    // What was added is zero.
    assert.ok(after.subarray(moved.offset, offset).every((byte) => byte === 0));
    assert.ok(
      after.subarray(offset + load.size, moved.offset + moved.size).every((byte) => byte === 0),
    );
  });
}

function assertWellFormed(file: Uint8Array): void {
  let end = 0;
  for (const { offset, address, size, memorySize, alignment } of loadsOf(file)) {
    assert.ok(offset + size <= file.length);
    assert.ok(memorySize >= size);
    assert.equal(address % alignment, offset % alignment, "not congruent modulo p_align");
    assert.ok(address - address % 4096 >= end, "segments share a page of memory");
    end = Math.ceil((address + memorySize) / 4096) * 4096;
  }
}

Deno.test("Deno's own executable, aligned, runs, and its text can be mapped by 2 MiB", async () => {
  const before = await Deno.readFile(Deno.execPath());
  const after = alignElf(before);
  assert.notEqual(after, before);
  assertSameMemory(before, after);
  assertWellFormed(after);
  const text = loadsOf(after).find(({ flags }) => (flags & 1) !== 0)!;
  assert.equal(text.address % HUGE, text.offset % HUGE);
  assert.equal(text.alignment, HUGE);
  assert.ok(after.length < before.length + 3 * HUGE);
  const directory = await Deno.makeTempDir();
  try {
    const path = join(directory, "deno");
    await Deno.writeFile(path, after, { mode: 0o755 });
    const { stdout } = await new Deno.Command(path, {
      args: ["eval", "--quiet", "console.log(Deno.version.deno)"],
    }).output();
    assert.equal(new TextDecoder().decode(stdout), `${Deno.version.deno}\n`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("whatever the segments are, memory stays the same and large ones become congruent", () => {
  const segment = fc.record({
    gap: fc.oneof(fc.nat(40_000), fc.nat(3 * HUGE)),
    size: fc.oneof(fc.integer({ min: 1, max: 10_000 }), fc.nat(4 * HUGE)),
    flags: fc.constantFrom(4, 5, 6),
  });
  fc.assert(
    fc.property(fc.array(segment, { minLength: 1, maxLength: 5 }), (parts) => {
      let address = 0;
      const file = elf(parts.map(({ gap, size, flags }, i) => {
        if (i > 0) address = Math.ceil(address / 4096) * 4096 + gap;
        const segment = { address, size: size + (i === 0 ? 8192 : 1), flags };
        address += segment.size;
        return segment;
      }));
      const aligned = alignElf(file);
      assertSameMemory(file, aligned);
      assertWellFormed(aligned);
      for (const { flags, size, address, offset } of loadsOf(aligned)) {
        if ((flags & 2) === 0 && size >= 2 * HUGE && aligned !== file) {
          assert.equal(address % HUGE, offset % HUGE);
        }
      }
    }),
    { numRuns: 30 },
  );
});

Deno.test("what is no executable, or is damaged, comes back as it is or still fits its file", () => {
  for (const bytes of [new Uint8Array(0), new Uint8Array(100), new TextEncoder().encode("#!/x")]) {
    assert.equal(alignElf(bytes), bytes);
  }
  const good = elf([
    { address: 0, size: 3 * HUGE, flags: 4 },
    { address: 4 * HUGE + 4096, size: 3 * HUGE, flags: 5 },
  ]);
  assert.notEqual(alignElf(good), good);
  const greedy = elf([
    { address: 0, size: 3 * HUGE, flags: 4 },
    { address: 4 * HUGE + 4096, size: 4096, flags: 6 },
  ]);
  assert.notEqual(alignElf(greedy), greedy);
  new DataView(greedy.buffer).setBigUint64(64 + 56 + 48, 1n << 60n, true); // p_align
  assert.equal(alignElf(greedy), greedy);
});
