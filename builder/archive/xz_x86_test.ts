import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { oracle } from "../../test/oracle.ts";
import { decompress } from "./decompress.ts";
import { command, testDirectory } from "./fixtures_test.ts";
import { decodeX86, withoutX86Filter } from "./xz_x86.ts";

/** Bytes that the filter has to think about, or code of this very machine. */
async function samples(): Promise<Uint8Array[]> {
  const opcodes = [0xe8, 0xe9, 0x00, 0xff, 0x0f, 0x85];
  const dense = crypto.getRandomValues(new Uint8Array(60_000))
    .map((byte) => byte < 200 ? opcodes[byte % opcodes.length]! : byte);
  const code = await Deno.readFile("/bin/sh");
  return [dense, code, Uint8Array.of(1), new Uint8Array(5).fill(0xe8)];
}

Deno.test("what xz packs with the x86 filter comes back", async () => {
  if (!await oracle("xz")) return;
  using directory = testDirectory();
  const path = join(directory.path, "data");
  for (const bytes of await samples()) {
    await Deno.writeFile(path, bytes);
    const flags = ["--check=crc32", "--x86", "--lzma2=preset=1"];
    const plain = withoutX86Filter(await command("xz", "-c", ...flags, path))!;
    const stream = new Blob([plain.stream]).stream();
    const parts = await Array.fromAsync(decompress(stream, { name: "test data" }));
    const out = new Uint8Array(Buffer.concat(parts));
    decodeX86(out);
    assert.equal(Buffer.compare(out, bytes), 0);
    assert.equal(crc32(out), plain.check);
  }
});

Deno.test("a file of another shape is left as it is, and damage is no crash", async () => {
  if (!await oracle("xz")) return;
  using directory = testDirectory();
  const path = join(directory.path, "data");
  await Deno.writeTextFile(path, "text ".repeat(50));
  const x86 = ["--x86", "--lzma2=preset=1"];
  for (const flags of [["--check=crc32"], ["--check=sha256", ...x86], ["--delta", "--lzma2"]]) {
    assert.equal(withoutX86Filter(await command("xz", "-c", ...flags, path)), undefined);
  }
  const good = new Uint8Array(await command("xz", "-c", "--check=crc32", ...x86, path));
  const at = fc.nat({ max: good.length - 1 });
  fc.assert(fc.property(at, fc.nat({ max: 255 }), (at, to) => {
    const changed = good.slice();
    changed[at] = to;
    try {
      withoutX86Filter(changed);
    } catch (error) {
      assert.ok(error instanceof Error && !(error instanceof RangeError), String(error));
    }
  }));
});
