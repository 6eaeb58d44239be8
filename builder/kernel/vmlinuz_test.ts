import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { CloudletError } from "../../base/errors.ts";
import { boot_params, setup_header } from "../../ffi/uapi/bootparam.ts";
import { oracle } from "../../test/oracle.ts";
import { command, testDirectory } from "../archive/fixtures_test.ts";
import { unpackVmlinux } from "./vmlinuz.ts";

/** What stands for a kernel: code that repeats, with calls for the x86 filter of xz. */
const KERNEL = Buffer.concat([
  Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1),
  ...Array.from({ length: 30_000 }, (_, i) => Uint8Array.of(0x90, 0xe8, i, i >>> 8, 0, 0, 0xc3)),
]);

/** A bzImage around a payload, as the kernel's Makefile makes it. */
function bzImage(
  packed: Uint8Array,
  options: { size?: number; magic?: number; version?: number; cut?: number } = {},
): Uint8Array {
  const gzip = packed[0] === 0x1f;
  const size = new Uint8Array(4);
  new DataView(size.buffer).setUint32(0, options.size ?? KERNEL.length, true);
  const payload = gzip ? packed : Buffer.concat([packed, size]);
  const stub = new Uint8Array(0x345); // the decompressor before the payload
  const setup = new Uint8Array(2 * 512);
  setup.set(
    setup_header.encode({
      setup_sects: 1,
      boot_flag: 0xaa55,
      header: options.magic ?? 0x5372_6448,
      version: options.version ?? 0x020f,
      payload_offset: stub.length,
      payload_length: payload.length,
    }),
    boot_params.offsets.hdr,
  );
  const image = Buffer.concat([setup, stub, payload, new Uint8Array(100)]);
  return new Uint8Array(image.subarray(0, image.length - (options.cut ?? 0)));
}

async function unpack(image: Uint8Array): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(unpackVmlinux(image, "vmlinuz-test")));
}

Deno.test("the kernel in a bzImage comes out, packed with gzip or zstd", async () => {
  for (const packed of [gzipSync(KERNEL), zstdCompressSync(KERNEL)]) {
    assert.equal(Buffer.compare(await unpack(bzImage(packed)), KERNEL), 0);
  }
});

Deno.test("the kernel in a bzImage comes out, packed as the kernel's Makefile does it", async () => {
  // scripts/Makefile.lib: cmd_xzkern (scripts/xz_wrap.sh), cmd_lz4, cmd_zstd22
  const tools: [string, ...string[]][] = [
    ["xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB", "-c"],
    ["xz", "--check=crc32", "-c"],
    ["lz4", "-l", "-9", "-c"],
    ["zstd", "-q", "-22", "--ultra", "-c"],
    ["gzip", "-n", "-9", "-c"],
  ];
  using directory = testDirectory();
  const path = join(directory.path, "vmlinux.bin");
  await Deno.writeFile(path, KERNEL);
  for (const [tool, ...flags] of tools) {
    if (!await oracle(tool)) continue;
    const packed = await command(tool, ...flags, path);
    assert.equal(Buffer.compare(await unpack(bzImage(packed)), KERNEL), 0, tool);
  }
});

Deno.test("what is damaged or no kernel is refused, and never comes out whole", async () => {
  const good = gzipSync(KERNEL);
  const cases: [RegExp, Uint8Array][] = [
    [/no bzImage/, bzImage(good, { magic: 1 })],
    [/older than 2\.08/, bzImage(good, { version: 0x0207 })],
    [/truncated/, bzImage(good, { cut: 101 })],
    [/too short/, new Uint8Array(100)],
    [/a way that is not known/, bzImage(KERNEL)],
    [/no ELF file/, bzImage(zstdCompressSync(Buffer.from("hello")), { size: 5 })],
    [/come out/, bzImage(zstdCompressSync(KERNEL), { size: KERNEL.length - 1 })],
    [/came out/, bzImage(zstdCompressSync(KERNEL), { size: KERNEL.length + 1 })],
    [/it would be/, bzImage(zstdCompressSync(KERNEL), { size: 0xffff_ffff })],
  ];
  for (const [why, image] of cases) {
    await assert.rejects(
      unpack(image),
      (error) => error instanceof CloudletError && why.test(error.message),
      String(why),
    );
  }
});
