/** Kernels as files: ELF, bzImage and what is packed in it, modules, executables to be aligned. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { command, hasCommand } from "../../builder/archive/fixtures_test.ts";
import { alignElf } from "../../builder/elf_align.ts";
import { moduleInfo, moduleName, orderModules } from "../../builder/kernel/modules.ts";
import { unpackVmlinux } from "../../builder/kernel/vmlinuz.ts";
import { boot_params, setup_header, XLF_KERNEL_64 } from "../../ffi/uapi/bootparam.ts";
import { invalidKernel, type KernelFile } from "../../vmm/boot/kernel_file.ts";
import { placeKernel, planKernel } from "../../vmm/boot/loader.ts";
import { MIB } from "../../vmm/layout.ts";
import { GuestMemory } from "../../vmm/memory/guest_memory.ts";
import { concatenate, expectRefusal, fuzz, type Random, refusedOr } from "./harness.ts";

const utf8 = new TextEncoder();

/** An ELF file with program headers: System V ABI, chapters 4 and 5. */
function elf(
  entry: number,
  segments: readonly { address: number; offset: number; size: number; memory?: number }[],
  length: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setBigUint64(24, BigInt(entry), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, segments.length, true);
  segments.forEach(({ address, offset, size, memory = size }, i) => {
    const at = 64 + 56 * i;
    view.setUint32(at, 1, true); // PT_LOAD
    view.setUint32(at + 4, 5, true);
    [offset, address, address, size, memory, 4096].forEach((value, field) => {
      view.setBigUint64(at + 8 + 8 * field, BigInt(value), true);
    });
  });
  return bytes;
}

function bzImage(payload: Uint8Array, size = 0x1000): Uint8Array {
  const stub = new Uint8Array(0x345);
  const setup = new Uint8Array(2 * 512);
  const { hdr } = boot_params.offsets;
  setup.set(
    setup_header.encode({
      setup_sects: 1,
      boot_flag: 0xaa55,
      header: 0x5372_6448,
      version: 0x020f,
      xloadflags: XLF_KERNEL_64,
      syssize: Math.floor((stub.length + payload.length) / 16),
      pref_address: BigInt(MIB),
      init_size: size,
      payload_offset: stub.length,
      payload_length: payload.length,
    }),
    hdr,
  );
  setup[0x201] = setup_header.size - 0x11;
  return concatenate(setup, stub, payload, new Uint8Array(100));
}

function fileOf(bytes: Uint8Array): KernelFile {
  const file = {
    path: "vmlinux",
    size: bytes.length,
    read(offset: number, length: number) {
      if (!(offset >= 0 && length >= 0 && offset + length <= bytes.length)) {
        throw invalidKernel(file, "it is truncated");
      }
      return new Uint8Array(bytes.subarray(offset, offset + length));
    },
    readInto(offset: number, target: Uint8Array) {
      assert(offset >= 0);
      if (offset + target.length > bytes.length) return false;
      target.set(bytes.subarray(offset, offset + target.length));
      return true;
    },
  };
  return file;
}

/** Damage where it counts: in the first bytes. */
function damageHead(random: Random, bytes: Uint8Array, head: number): Uint8Array {
  const damaged = random.damage(bytes.subarray(0, head));
  return random.chance(4) ? damaged : concatenate(damaged, bytes.subarray(head));
}

fuzz("kernel-file", (stack) => {
  const memory = stack.use(GuestMemory.create(32 * MIB));
  const segment = { address: MIB, offset: 0x200, size: 0x100, memory: 0x1000 };
  const whole = [
    [elf(MIB, [segment, { ...segment, address: 2 * MIB }], 0x400), 64 + 2 * 56],
    [bzImage(new Uint8Array(0x2000)), 0x290],
  ] as const;
  return (random) => {
    const [image, head] = random.pick(whole);
    const bytes = random.chance(20) ? random.bytes(700) : damageHead(random, image!, head!);
    const kernel = refusedOr(() => {
      const file = fileOf(bytes);
      return placeKernel(memory, file, planKernel(file));
    }, "invalid-input");
    if (kernel === undefined) return;
    assert(kernel.end <= 32 * MIB && kernel.entry >= MIB && kernel.entry < kernel.end);
  };
});

const KERNEL = concatenate(
  Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1),
  ...Array.from({ length: 3000 }, (_, i) => Uint8Array.of(0x90, 0xe8, i, i >>> 8, 0, 0, 0xc3)),
);

fuzz("vmlinuz", async () => {
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, KERNEL.length, true);
  // The last two have no check over what comes out.
  const images = [bzImage(gzipSync(KERNEL))];
  const unchecked = [bzImage(concatenate(zstdCompressSync(KERNEL), size))];
  const path = await Deno.makeTempFile();
  await Deno.writeFile(path, KERNEL);
  for (
    const [tool, ...flags] of [["xz", "--check=crc32", "--x86", "--lzma2=dict=1MiB"], ["lz4", "-l"]]
  ) {
    if (!hasCommand(tool!)) continue;
    const image = bzImage(concatenate(await command(tool!, ...flags, "-c", path), size));
    (tool === "xz" ? images : unchecked).push(image);
  }
  await Deno.remove(path);
  const all = async (image: Uint8Array) =>
    concatenate(...await Array.fromAsync(unpackVmlinux(image, "vmlinuz")));
  for (const image of [...images, ...unchecked]) {
    assert.equal(Buffer.compare(await all(image), KERNEL), 0);
  }
  return async (random) => {
    const image = random.pick([...images, ...unchecked]);
    const head = random.pick([0x290, 1024 + 0x345 + 60, image.length]);
    const damaged = damageHead(random, image, head);
    try {
      const out = await all(damaged);
      if (images.includes(image)) assert.equal(Buffer.compare(out, KERNEL), 0, "it is another one");
    } catch (error) {
      expectRefusal(error, "untrusted");
    }
  };
});

/** An ELF object with a .modinfo section. */
function moduleOf(entries: readonly string[]): Uint8Array<ArrayBuffer> {
  const info = utf8.encode(entries.map((entry) => `${entry}\0`).join(""));
  const names = utf8.encode("\0.modinfo\0.shstrtab\0");
  const table = 64 + info.length + names.length;
  const bytes = new Uint8Array(table + 3 * 64);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(40, BigInt(table), true);
  [64, 0, 0, 64, 3, 2].forEach((value, i) => view.setUint16(52 + 2 * i, value, true));
  bytes.set(info, 64);
  bytes.set(names, 64 + info.length);
  [[1, 64, info.length], [10, 64 + info.length, names.length]].forEach(([name, start, size], i) => {
    const at = table + 64 * (i + 1);
    view.setUint32(at, name!, true);
    view.setBigUint64(at + 24, BigInt(start!), true);
    view.setBigUint64(at + 32, BigInt(size!), true);
  });
  return bytes;
}

const MODULES = ["a", "b-c", "d", "gone"];
const DEPENDS = ["depends=", "depends=a", "depends=b-c,d", "depends=d,,a", "softdep=pre: a gone"];
const MORE = [
  "softdep=pre: post:",
  "=",
  "license=GPL",
  "depends=gone",
  `depends=${"a,".repeat(99)}`,
];

fuzz("modules", () => async (random) => {
  const modules = new Map(
    MODULES.slice(0, 3).map((name) => {
      const entries = Array.from(
        { length: random.below(4) },
        () => random.pick([...DEPENDS, ...MORE]),
      );
      const bytes = moduleOf(entries);
      const told = [...moduleInfo(bytes, name)].flatMap(([key, list]) =>
        list.map((v) => `${key}=${v}`)
      );
      assert.deepEqual(told.sort(), entries.sort());
      return [moduleName(name), random.chance(2) ? bytes : random.damage(bytes, 3)];
    }),
  );
  try {
    const ordered = await orderModules(MODULES.slice(0, 3), {
      read: (name) => Promise.resolve(modules.get(name)),
      builtIn: (name) => name === "built_in",
    });
    assert.equal(new Set(ordered.map(({ name }) => name)).size, ordered.length);
  } catch (error) {
    expectRefusal(error, "untrusted", "not-found");
  }
});

fuzz("modules-large", () => {
  // as many sections as there can be, and names that do not end
  const count = 60_000;
  const table = 64;
  const bytes = new Uint8Array(64 + 64 * count + 4_000_000).fill(0x61, 64 + 64 * count);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(40, BigInt(table), true);
  [64, 0, 0, 64, count, 2].forEach((value, i) => view.setUint16(52 + 2 * i, value, true));
  view.setBigUint64(table + 2 * 64 + 24, BigInt(64 + 64 * count), true);
  view.setBigUint64(table + 2 * 64 + 32, 4_000_000n, true);
  for (let section = 3; section < count; section++) {
    view.setBigUint64(table + 64 * section + 32, BigInt(bytes.length), true); // each is the whole file
  }
  return (random) => {
    const start = 64 + 64 * count + random.below(1000);
    bytes.set(utf8.encode(".modinfo\0"), start);
    for (let section = 1; section < count; section++) {
      view.setUint32(table + 64 * section, random.chance(2) ? 0 : start - 64 - 64 * count, true);
    }
    refusedOr(() => moduleInfo(bytes, "large"), "untrusted");
    bytes.fill(0x61, start, start + 9);
  };
});

fuzz("elf-align", () => {
  const HUGE = 2 * MIB;
  const good = elf(0, [
    { address: 0, offset: 0, size: 2 * HUGE },
    { address: 3 * HUGE + 4096, offset: 2 * HUGE + 4096, size: 2 * HUGE },
    { address: 5 * HUGE + 4096, offset: 4 * HUGE + 4096, size: 4096 },
  ], 4 * HUGE + 8192);
  assert(alignElf(good) !== good);
  const head = good.slice(0, 64 + 3 * 56);
  return (random) => {
    const damaged = random.damage(head, 3);
    if (damaged.length > 4096) return;
    good.set(damaged);
    const aligned = alignElf(good);
    good.set(head);
    assert(aligned.length < good.length + 100 * HUGE, `it has ${aligned.length} bytes`);
  };
});
