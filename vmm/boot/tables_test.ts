import assert from "node:assert/strict";
import fc from "fast-check";
import { CloudletError } from "../../base/errors.ts";
import { boot_params, setup_data, SETUP_RNG_SEED } from "../../ffi/uapi/bootparam.ts";
import {
  BOOT_PARAMS_ADDRESS,
  CMDLINE_ADDRESS,
  EBDA_ADDRESS,
  GIB,
  MAX_VCPUS,
  MIB,
  MMIO_GAP_END,
  PAGE_TABLES_ADDRESS,
} from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { translate } from "../assist/page_walk.ts";
import { memoryMap, writeBootParams, writeCommandLine } from "./boot_params.ts";
import { cpuidFor } from "./cpu.ts";
import { mpTable } from "./mptable.ts";
import { writeBootTables } from "./paging.ts";

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);
const CPU = { signature: 0x00a2_0f12, features: 0x178b_fbff };

Deno.test("boot_params tell the kernel of memory, command line, initramfs and seed", () => {
  using memory = GuestMemory.create(64 * MIB);
  const seed = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
  writeCommandLine(memory, "quiet");
  writeBootParams(memory, {
    kernel: { entry: 0x100_0000, end: 0x200_0000 },
    initramfs: { start: 0x300_0000, size: 12345 },
    seed,
  });
  const params = boot_params.decode(memory.read(BOOT_PARAMS_ADDRESS, boot_params.size));
  assert.equal(params.e820_entries, 3);
  assert.equal(params.sentinel, 0);
  assert.equal(params.hdr.header, 0x5372_6448);
  assert.equal(params.hdr.ramdisk_image, 0x300_0000);
  assert.equal(params.hdr.ramdisk_size, 12345);
  assert.deepEqual(
    memory.read(params.hdr.cmd_line_ptr, 6),
    new TextEncoder().encode("quiet\0"),
  );
  const at = Number(params.hdr.setup_data);
  const data = setup_data.decode(memory.read(at, setup_data.size));
  assert.deepEqual(data, { next: 0n, type: SETUP_RNG_SEED, len: 32 });
  assert.deepEqual(memory.read(at + setup_data.size, 32), seed);
});

Deno.test("the memory map covers all RAM but the EBDA and the ROM hole, without overlaps", () => {
  fc.assert(fc.property(fc.integer({ min: 8192, max: 32 << 20 >> 2 }), (pages) => {
    const size = pages * 4096;
    const map = memoryMap(size);
    let end = 0n;
    let ram = 0n;
    for (const entry of map) {
      assert.ok(entry.addr >= end && entry.size > 0n);
      end = entry.addr + entry.size;
      if (entry.type === 1) ram += entry.size;
    }
    assert.equal(ram, BigInt(size - (MIB - EBDA_ADDRESS)));
  }));
  assert.deepEqual(memoryMap(5 * GIB).at(-1), {
    addr: BigInt(MMIO_GAP_END),
    size: BigInt(2 * GIB),
    type: 1,
  });
});

Deno.test("a command line that the kernel would cut is refused", () => {
  using memory = GuestMemory.create(32 * MIB);
  writeCommandLine(memory, "x".repeat(2047));
  assert.equal(memory.read(CMDLINE_ADDRESS + 2047, 1)[0], 0);
  for (const line of ["x".repeat(2048), "ü".repeat(1024), "a\0b"]) {
    assert.throws(
      () => writeCommandLine(memory, line),
      (error) => error instanceof CloudletError && error.code === "invalid-input",
    );
  }
});

Deno.test("an MP table has right checksums and lengths for every number of processors", () => {
  for (let vcpus = 1; vcpus <= MAX_VCPUS; vcpus++) {
    const table = mpTable(vcpus, CPU);
    assert.equal(new TextDecoder().decode(table.subarray(0, 4)), "_MP_");
    assert.equal(sum(table.subarray(0, 16)), 0);
    const view = new DataView(table.buffer);
    assert.equal(view.getUint32(4, true), EBDA_ADDRESS + 16);
    const configuration = table.subarray(16);
    assert.equal(view.getUint16(16 + 4, true), configuration.length);
    assert.equal(sum(configuration), 0);
    // Walk it as a kernel does: 20 bytes for a processor, 8 for everything else.
    let at = 44;
    let entries = 0;
    const enabled: number[] = [];
    for (; at < configuration.length; entries++) {
      const type = configuration[at]!;
      assert.ok(type <= 4);
      if (type === 0) enabled.push(configuration[at + 1]!);
      at += type === 0 ? 20 : 8;
    }
    assert.equal(at, configuration.length);
    assert.equal(entries, view.getUint16(16 + 34, true));
    assert.deepEqual(enabled, Array.from({ length: vcpus }, (_, id) => id));
  }
});

Deno.test("the boot page tables map the first 4 GiB one to one", () => {
  using memory = GuestMemory.create(32 * MIB);
  writeBootTables(memory);
  const paging = { cr0: 1n << 31n, cr3: BigInt(PAGE_TABLES_ADDRESS), cr4: 1n << 5n };
  const access = { write: true, user: false };
  fc.assert(fc.property(fc.integer({ min: 0, max: 4 * GIB - 1 }), (address) => {
    assert.equal(translate(memory, paging, BigInt(address), access), address);
  }));
  assert.throws(() => translate(memory, paging, BigInt(4 * GIB), access), /page fault/);
});

Deno.test("CPUID tells each vCPU its own APIC id, and that it is in a VM", () => {
  const leaf = (fn: number, index = 0) => ({
    function: fn,
    index,
    flags: 0,
    eax: 0,
    ebx: 0xff00_1234,
    ecx: 0,
    edx: 0,
  });
  const supported = [leaf(1), leaf(0xb, 0), leaf(0xb, 1), leaf(0x8000_0008), leaf(0x8000_001e)];
  const [one, smt, core, sizes, extended] = cpuidFor(supported, {
    id: 5,
    count: 6,
    tscDeadline: true,
  });
  assert.equal(one!.ebx >>> 24, 5);
  assert.equal((one!.ebx >>> 16) & 0xff, 6);
  assert.equal(one!.ebx & 0xffff, 0x1234);
  assert.equal(one!.ecx >>> 31, 1);
  assert.equal((one!.ecx >>> 24) & 1, 1);
  assert.deepEqual([smt!.eax, smt!.ebx, smt!.edx], [0, 1, 5]);
  assert.deepEqual([core!.eax, core!.ebx, core!.edx], [3, 6, 5]);
  assert.equal(sizes!.ecx & 0xff, 5);
  assert.equal(extended!.eax, 5);
  assert.equal(supported[0]!.ebx, 0xff00_1234); // the input is not changed
});
