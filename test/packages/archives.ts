/**
 * Archives of packages, made on the spot: what registries of tests serve.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { concatBytes } from "../../base/bytes.ts";

/** Files by their paths. */
export type Files = Readonly<Record<string, string>>;

const utf8 = new TextEncoder();

/** A zip archive with nothing compressed (APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16). */
export function zip(files: Files): Uint8Array<ArrayBuffer> {
  const local: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let offset = 0;
  for (const [path, text] of Object.entries(files)) {
    const [name, content] = [utf8.encode(path), utf8.encode(text)];
    const common = new Uint8Array(26);
    const view = new DataView(common.buffer);
    view.setUint16(0, 20, true); // version needed
    view.setUint16(8, 0x21, true); // 1980-01-01
    view.setUint32(10, crc32(content), true);
    view.setUint32(14, content.length, true);
    view.setUint32(18, content.length, true);
    view.setUint16(22, name.length, true);
    const entry = [Uint8Array.of(0x50, 0x4b, 3, 4), common, name, content];
    const more = new Uint8Array(14);
    new DataView(more.buffer).setUint32(10, offset, true);
    central.push(Uint8Array.of(0x50, 0x4b, 1, 2, 20, 3), common, more, name);
    local.push(...entry);
    offset += entry.reduce((sum, { length }) => sum + length, 0);
  }
  const directory = concatBytes(central);
  const end = new Uint8Array(22);
  const view = new DataView(end.buffer);
  view.setUint32(0, 0x06054b50, true);
  view.setUint16(8, Object.keys(files).length, true);
  view.setUint16(10, Object.keys(files).length, true);
  view.setUint32(12, directory.length, true);
  view.setUint32(16, offset, true);
  return concatBytes([...local, directory, end]);
}

/** A wheel (the binary distribution format of PyPA's specifications). */
export function wheel(
  name: string,
  version: string,
  files: Files,
  requires: readonly string[] = [],
): Uint8Array<ArrayBuffer> {
  const info = `${name}-${version}.dist-info`;
  const metadata = `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n` +
    requires.map((requirement) => `Requires-Dist: ${requirement}\n`).join("");
  const all = {
    ...files,
    [`${info}/METADATA`]: metadata,
    [`${info}/WHEEL`]:
      "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
  };
  const record = [...Object.keys(all), `${info}/RECORD`].map((path) => `${path},,\n`).join("");
  return zip({ ...all, [`${info}/RECORD`]: record });
}

/** What GNU tar makes of the files, compressed by gzip. */
export async function tarball(files: Files): Promise<Uint8Array<ArrayBuffer>> {
  const directory = await Deno.makeTempDir();
  try {
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(dirname(join(directory, path)), { recursive: true });
      await Deno.writeTextFile(join(directory, path), text);
    }
    const { success, stdout } = await new Deno.Command("tar", {
      args: ["-C", directory, "-czf", "-", ...Deno.readDirSync(directory).map(({ name }) => name)],
    }).output();
    if (!success) throw new Error("tar failed");
    return new Uint8Array(stdout);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
