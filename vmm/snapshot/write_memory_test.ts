import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { join } from "node:path";
import fc from "fast-check";
import { SyscallError } from "../../ffi/errno.ts";
import { OwnedFd } from "../../ffi/fd.ts";
import { O_CLOEXEC, O_RDWR } from "../../ffi/uapi/mman.ts";
import { PAGE_SIZE } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { openMemory } from "./memory_file.ts";
import { writeMemory } from "./write_memory.ts";
import { writePages } from "./write_pages.ts";

const MIB = 1 << 20;
const fork = { base: undefined, durable: false, copied() {} };

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function bytesIn(path: string): number {
  try {
    return Deno.statSync(path).blocks ?? 0;
  } catch {
    return 0;
  }
}

/** Whether something is mapped there: proc_pid_maps(5). */
function isMapped(address: bigint): boolean {
  const lines = Deno.readTextFileSync("/proc/self/maps").matchAll(/^([0-9a-f]+)-([0-9a-f]+) /gm);
  return lines.some(([, start, end]) =>
    BigInt(`0x${start}`) <= address && address < BigInt(`0x${end}`)
  );
}

Deno.test("of any pages, those are written that are marked and not all zeros, each to its place", async () => {
  const COUNT = 24;
  const OFFSET = 5 * PAGE_SIZE;
  await inDirectory(async (directory) => {
    // Of each page: whether it is marked, and where it has a byte that is no zero, if at all.
    const page = fc.record({
      marked: fc.boolean(),
      at: fc.option(fc.nat(PAGE_SIZE - 1), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(page, { minLength: 1, maxLength: COUNT }), async (pages) => {
        using memory = GuestMemory.create(COUNT * PAGE_SIZE);
        const expected = new Uint8Array(OFFSET + COUNT * PAGE_SIZE).fill(0xee);
        pages.forEach(({ marked, at }, i) => {
          if (at === undefined) return;
          memory.write(i * PAGE_SIZE + at, Uint8Array.of(i + 1));
          if (!marked) return;
          const start = OFFSET + i * PAGE_SIZE;
          expected.fill(0, start, start + PAGE_SIZE)[start + at] = i + 1;
        });
        const path = join(directory, "file");
        await Deno.writeFile(path, new Uint8Array(expected.length).fill(0xee));
        using file = OwnedFd.open(path, O_RDWR | O_CLOEXEC);
        const marks = Uint8Array.from(pages, ({ marked }) => marked ? 1 : 0);
        const written = await writePages(file.fd, memory.ram.address, marks, OFFSET);
        const got = await Deno.readFile(path);
        assert.equal(Buffer.compare(got, expected), 0);
        const data = pages.filter(({ marked, at }) => marked && at !== undefined).length;
        assert.equal(written, data * PAGE_SIZE);
      }),
      { numRuns: 200 },
    );
  });
});

Deno.test("a write that fails is told with its errno", async () => {
  using memory = GuestMemory.create(PAGE_SIZE);
  memory.write(0, Uint8Array.of(1));
  using full = OwnedFd.open("/dev/full", O_RDWR | O_CLOEXEC);
  const codes: string[] = [];
  for (const fd of [full.fd, -1]) {
    await assert.rejects(
      () => writePages(fd, memory.ram.address, Uint8Array.of(1), 0),
      (error) => error instanceof SyscallError && codes.push(error.code) > 0,
    );
  }
  assert.deepEqual(codes, ["ENOSPC", "EBADF"]);
});

Deno.test("what was mapped from a file is saved with what was changed, and its digests are right", async () => {
  await inDirectory(async (directory) => {
    const size = 35 * MIB; // a slice and a part, which is an odd number of chunks
    using first = GuestMemory.create(size);
    const places = [0, 31 * MIB, 32 * MIB - 1, 32 * MIB, size - 1];
    for (const place of places) first.write(place, Uint8Array.of(7));
    const durable = { ...fork, durable: true };
    const one = await writeMemory(first, join(directory, "one"), durable);
    assert.equal(one.data, 5 * PAGE_SIZE);

    using base = await openMemory(join(directory, "one"), one.identity, one.digests);
    using second = GuestMemory.create(size);
    second.mapOverRam(base.fd, base.data);
    second.write(0, Uint8Array.of(0)); // a page of zeros again
    second.write(20 * MIB, Uint8Array.of(9));
    const two = await writeMemory(second, join(directory, "two"), { ...durable, base: base.fd });
    assert.equal(two.data, 5 * PAGE_SIZE);
    const bytes = await Deno.readFile(join(directory, "two"));
    assert.equal(Buffer.compare(bytes, second.read(0, size)), 0);
    for (let chunk = 0; chunk * 2 * MIB < size; chunk++) {
      const part = bytes.subarray(chunk * 2 * MIB, (chunk + 1) * 2 * MIB);
      const digest = part.some((byte) => byte !== 0)
        ? createHash("sha256").update(part).digest()
        : new Uint8Array(32);
      assert.deepEqual([...two.digests.subarray(chunk * 32, chunk * 32 + 32)], [...digest]);
    }
    using _whole = await openMemory(join(directory, "two"), two.identity, two.digests, true);
  });
});

Deno.test("the thread that saves a memory is free meanwhile", async () => {
  await inDirectory(async (directory) => {
    const size = 256 * MIB;
    using memory = GuestMemory.create(size);
    const ones = new Uint8Array(MIB).fill(1);
    for (let at = 0; at < size; at += MIB) memory.write(at, ones);
    let on = true;
    let longest = 0;
    let last = performance.now();
    const watching = (async () => {
      while (on) {
        await new Promise((next) => setTimeout(next, 0));
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
      }
    })();
    const start = performance.now();
    await writeMemory(memory, join(directory, "memory"), fork);
    const took = performance.now() - start;
    on = false;
    await watching;
    // A thread that copies it itself is away for all of the time.
    assert.ok(longest < took / 2, `${longest} of ${took} ms`);
  });
});

Deno.test("a memory that ends while it is saved stays mapped until the last call has returned", async () => {
  await inDirectory(async (directory) => {
    const size = 96 * MIB;
    const memory = GuestMemory.create(size);
    const ones = new Uint8Array(MIB).fill(1);
    for (let at = 0; at < size; at += MIB) memory.write(at, ones);
    const { address } = memory.ram;
    const mapped = () => isMapped(address + BigInt(size / 2));
    const written = writeMemory(memory, join(directory, "memory"), {
      ...fork,
      copied: () => assert.fail("it is not all there"),
    });
    const refused = assert.rejects(written, /it is unmapped/);
    while (bytesIn(join(directory, "memory")) === 0) { // no call is under way yet
      await new Promise((next) => setTimeout(next, 0));
    }
    memory[Symbol.dispose]();
    await refused;
    assert.equal(mapped(), false);
    memory[Symbol.dispose]();
    assert.throws(() => memory.keepMapped(), RangeError);
  });
});

Deno.test("memory is unmapped by the last that keeps it mapped, once", () => {
  const size = 64 * MIB;
  const memory = GuestMemory.create(size);
  const { address } = memory.ram;
  const mapped = () => isMapped(address + BigInt(size / 2));
  const [one, two] = [memory.keepMapped(), memory.keepMapped()];
  memory[Symbol.dispose]();
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  assert.equal(mapped(), true);
  two[Symbol.dispose]();
  assert.equal(mapped(), false);
});
