import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { MIB } from "../layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { boot_params, setup_header } from "../../ffi/uapi/bootparam.ts";
import { invalidKernel, type KernelFile } from "./kernel_file.ts";
import { loadInitramfs, loadKernel, placeKernel, planKernel } from "./loader.ts";

/** A kernel file in memory. */
function fileOf(bytes: Uint8Array): KernelFile {
  const file: KernelFile = {
    path: "kernel",
    size: bytes.length,
    read(offset, length) {
      if (!(offset >= 0 && offset + length <= bytes.length)) throw invalidKernel(file, "truncated");
      return bytes.slice(offset, offset + length) as Uint8Array<ArrayBuffer>;
    },
    readInto(offset, target) {
      if (offset + target.length > bytes.length) return false;
      target.set(bytes.subarray(offset, offset + target.length));
      return true;
    },
  };
  return file;
}

interface ElfOptions {
  readonly machine?: number;
  readonly type?: number;
  readonly class?: number;
  readonly entry?: bigint;
  readonly phnum?: number;
  readonly segment?: Partial<Record<"offset" | "paddr" | "filesz" | "memsz", bigint>>;
}

const CODE = Uint8Array.of(0xf4, 1, 2, 3);

/** An ELF file with one segment of {@linkcode CODE} at 2 MiB. */
function elf(options: ElfOptions = {}): Uint8Array {
  const bytes = new Uint8Array(0x1000 + CODE.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, options.class ?? 2, 1, 1]);
  view.setUint16(16, options.type ?? 2, true);
  view.setUint16(18, options.machine ?? 62, true);
  view.setBigUint64(24, options.entry ?? 0x20_0000n, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, options.phnum ?? 1, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setBigUint64(64 + 8, options.segment?.offset ?? 0x1000n, true);
  view.setBigUint64(64 + 24, options.segment?.paddr ?? 0x20_0000n, true);
  view.setBigUint64(64 + 32, options.segment?.filesz ?? BigInt(CODE.length), true);
  view.setBigUint64(64 + 40, options.segment?.memsz ?? 0x2000n, true);
  bytes.set(CODE, 0x1000);
  return bytes;
}

/** A bzImage with one setup sector and 32 bytes more than its entry point's offset. */
function bzImage(fields: Record<string, number | bigint> = {}): Uint8Array {
  const bytes = new Uint8Array(1024 + 0x220).fill(0xcc, 1024);
  setup_header.update(new DataView(bytes.buffer), boot_params.offsets.hdr, {
    setup_sects: 1,
    syssize: 0x220 / 16,
    boot_flag: 0xaa55,
    header: 0x5372_6448,
    jump: 0x66eb, // up to 0x268
    version: 0x020f,
    xloadflags: 1,
    pref_address: 0x100_0000n,
    init_size: 0x10_0000,
    ...fields,
  });
  return bytes;
}

const rejects = (bytes: Uint8Array, why: RegExp) =>
  assert.throws(
    () => planKernel(fileOf(bytes)),
    (error) =>
      error instanceof CloudletError && error.code === "invalid-input" &&
      error.remedy !== undefined && why.test(error.message),
  );

Deno.test("an ELF kernel goes to its physical addresses", () => {
  using memory = GuestMemory.create(32 * MIB);
  const file = fileOf(elf());
  const kernel = placeKernel(memory, file, planKernel(file));
  assert.deepEqual(kernel, { entry: 0x20_0000, end: 0x20_2000 });
  assert.deepEqual(memory.read(0x20_0000, 5), Uint8Array.of(...CODE, 0));
});

Deno.test("a bzImage goes to 1 MiB, and its header is kept for boot_params", () => {
  using memory = GuestMemory.create(32 * MIB);
  const file = fileOf(bzImage());
  const kernel = placeKernel(memory, file, planKernel(file));
  assert.equal(kernel.entry, 0x10_0200);
  assert.equal(kernel.end, 0x110_0000);
  assert.equal(kernel.setupHeader!.length, 0x268 - 0x1f1);
  assert.equal(memory.read(0x10_0200, 1)[0], 0xcc);
});

Deno.test("what is no kernel for a microVM is refused with the reason", () => {
  rejects(new TextEncoder().encode("#!/bin/sh\n"), /neither an ELF file nor a bzImage/);
  rejects(elf().subarray(0, 40), /truncated/);
  rejects(elf().subarray(0, 0x1002), /truncated/);
  rejects(elf({ machine: 183 }), /AArch64, not for x86-64/);
  rejects(elf({ machine: 9999 }), /ELF machine 9999/);
  rejects(elf({ class: 1 }), /not a 64-bit/);
  rejects(elf({ type: 1 }), /not an executable/);
  rejects(elf({ phnum: 0 }), /no program headers/);
  rejects(elf({ phnum: 1000 }), /1000 program headers/);
  rejects(elf({ entry: 0x30_0000n }), /entry point/);
  rejects(elf({ segment: { memsz: 1n } }), /larger in the file/);
  rejects(elf({ segment: { filesz: 1n << 62n, memsz: 1n << 62n } }), /truncated/);
  rejects(elf({ segment: { memsz: 0n, filesz: 0n } }), /nothing to load/);
  rejects(bzImage({ version: 0x0204 }), /older than 2.12/);
  rejects(bzImage({ xloadflags: 0 }), /32-bit/);
  rejects(bzImage({ syssize: 0xffff_ffff }), /truncated/);
  rejects(bzImage({ syssize: 1 }), /no code/);
});

Deno.test("a kernel outside memory is refused", () => {
  using memory = GuestMemory.create(32 * MIB);
  const place = (bytes: Uint8Array) => () => {
    const file = fileOf(bytes);
    placeKernel(memory, file, planKernel(file));
  };
  assert.throws(
    place(elf({ entry: 0x1000n, segment: { paddr: 0x1000n } })),
    /below 1 MiB/,
  );
  assert.throws(place(elf({ segment: { memsz: 40n << 20n } })), /needs 42 MiB/);
  assert.throws(
    place(elf({ entry: (1n << 63n) + 1n, segment: { paddr: 1n << 63n } })),
    CloudletError,
  );
  assert.throws(place(bzImage({ init_size: 0xffff_ffff })), /needs \d+ MiB/);
});

Deno.test("files that are not there, empty or no files are refused", async () => {
  using memory = GuestMemory.create(32 * MIB);
  const directory = await Deno.makeTempDir();
  try {
    const empty = join(directory, "empty");
    await Deno.writeFile(empty, new Uint8Array(0));
    assert.throws(
      () => loadKernel(memory, join(directory, "missing")),
      (error) =>
        error instanceof CloudletError && error.code === "not-found" && /no such file/.test(
          error.message,
        ),
    );
    assert.throws(() => loadKernel(memory, empty), /it is empty/);
    assert.throws(() => loadKernel(memory, directory), /not a regular file|Is a directory/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("an initramfs lies at the end of memory, its parts one after the other", () => {
  using memory = GuestMemory.create(64 * MIB);
  const parts = [Uint8Array.of(1, 2, 3, 4), Uint8Array.of(5, 6)];
  const loaded = loadInitramfs(memory, { end: 2 * MIB }, parts)!;
  assert.deepEqual(loaded, { start: 64 * MIB - 4096, size: 6 });
  assert.deepEqual(memory.read(loaded.start, 6), Uint8Array.of(1, 2, 3, 4, 5, 6));
  assert.equal(loadInitramfs(memory, { end: 2 * MIB }, []), undefined);
});

Deno.test("an initramfs that does not fit says how much memory would do", () => {
  using memory = GuestMemory.create(32 * MIB);
  assert.throws(
    () => loadInitramfs(memory, { end: 20 * MIB }, [new Uint8Array(40 * MIB)]),
    (error) =>
      error instanceof CloudletError && error.code === "invalid-input" &&
      error.remedy === "give the VM at least 108 MiB",
  );
});
