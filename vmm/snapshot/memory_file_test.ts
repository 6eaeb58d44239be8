import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { GuestMemory } from "../memory/guest_memory.ts";
import { openMemory } from "./memory_file.ts";
import { writeMemory } from "./write_memory.ts";

const MIB = 1 << 20;
const SIZE = 128 * MIB;

Deno.test("only where a memory file has data is it mapped, and RAM is the same everywhere", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "memory");
  try {
    const places = [0x3000, 10 * MIB + 1, 100 * MIB, SIZE - 1];
    const options = { base: undefined, durable: true, copied: () => {} };
    using saved = GuestMemory.create(SIZE);
    for (const [i, place] of places.entries()) saved.write(place, Uint8Array.of(i + 1));
    const { identity, digests } = await writeMemory(saved, path, options);
    using file = await openMemory(path, identity, digests);
    assert.deepEqual(file.data, [
      { start: 0, end: 12 * MIB }, // 8 MiB of zeros are no reason for another range
      { start: 100 * MIB, end: SIZE }, // nor are 26
    ]);

    using memory = GuestMemory.create(SIZE);
    memory.useSmallPages();
    memory.mapOverRam(file.fd, file.data);
    for (let at = 0; at < SIZE; at += MIB) {
      assert.equal(Buffer.compare(memory.read(at, MIB), saved.read(at, MIB)), 0, `at ${at}`);
    }
    memory.write(50 * MIB, Uint8Array.of(9)); // where nothing is mapped
    memory.write(0x3000, Uint8Array.of(9));

    // What is written of it has both, and what it was mapped from has neither.
    const again = join(directory, "again");
    const written = await writeMemory(memory, again, { ...options, base: file.fd });
    using other = await openMemory(again, written.identity, written.digests);
    using third = GuestMemory.create(SIZE);
    third.mapOverRam(other.fd, other.data);
    assert.deepEqual([...third.read(50 * MIB, 2), ...third.read(0x3000, 1)], [9, 0, 9]);
    assert.deepEqual([...third.read(SIZE - 2, 2)], [0, 4]);
    using unchanged = GuestMemory.create(SIZE);
    unchanged.mapOverRam(file.fd, file.data);
    assert.deepEqual([...unchanged.read(50 * MIB, 1), ...unchanged.read(0x3000, 1)], [0, 1]);
    assert.throws(() => unchanged.mapOverRam(file.fd, [{ start: 0, end: SIZE + 1 }]), RangeError);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
