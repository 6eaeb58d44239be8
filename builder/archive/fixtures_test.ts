/** Archives for the tests beside this file and in builder/debian, hostile ones included. */
import { Buffer } from "node:buffer";
import { gzipSync, zstdCompressSync } from "node:zlib";

/** A member of a test archive. */
export interface TarEntry {
  readonly name: string;
  readonly flag?: string;
  readonly content?: string | Uint8Array;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly major?: number;
  readonly minor?: number;
  /** Overrides the size field. */
  readonly size?: number | string;
  /** `gnu` (the default) or `posix`. */
  readonly magic?: "gnu" | "posix";
  readonly prefix?: string;
}

export function octal(value: number, length: number): string {
  return value.toString(8).padStart(length - 1, "0") + "\0";
}

/** One header with its content, padded to blocks. */
export function tarMember(entry: TarEntry): Uint8Array {
  const { flag = "0", magic = "gnu" } = entry;
  const content = typeof entry.content === "string"
    ? new TextEncoder().encode(entry.content)
    : entry.content ?? new Uint8Array(0);
  const block = Buffer.alloc(512);
  block.write(entry.name, 0, 100, "utf8");
  block.write(octal(entry.mode ?? (flag === "5" ? 0o755 : 0o644), 8), 100, "latin1");
  block.write(octal(entry.uid ?? 0, 8), 108, "latin1");
  block.write(octal(entry.gid ?? 0, 8), 116, "latin1");
  const size = entry.size ?? content.length;
  block.write(typeof size === "string" ? size : octal(size, 12), 124, "latin1");
  block.write(octal(entry.mtime ?? 0, 12), 136, "latin1");
  block.write(flag, 156, "latin1");
  block.write(entry.link ?? "", 157, 100, "utf8");
  block.write(magic === "gnu" ? "ustar  \0" : "ustar\x0000", 257, "latin1");
  block.write(octal(entry.major ?? 0, 8), 329, "latin1");
  block.write(octal(entry.minor ?? 0, 8), 337, "latin1");
  block.write(entry.prefix ?? "", 345, 155, "utf8");
  block.write("        ", 148, "latin1");
  const sum = block.reduce((a, b) => a + b, 0);
  block.write(sum.toString(8).padStart(6, "0") + "\0 ", 148, "latin1");
  const padding = (512 - content.length % 512) % 512;
  return new Uint8Array(Buffer.concat([block, content, Buffer.alloc(padding)]));
}

/** A whole archive. */
export function makeTar(entries: readonly TarEntry[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat([...entries.map(tarMember), Buffer.alloc(1024)]));
}

/** A pax record, which counts itself. */
export function paxRecord(key: string, value: string | Uint8Array): Uint8Array {
  const bytes = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from("\n")]);
  let length = bytes.length;
  while (String(length).length + bytes.length !== length) {
    length = String(length).length + bytes.length;
  }
  return new Uint8Array(Buffer.concat([Buffer.from(String(length)), bytes]));
}

/** A pax header for the next member. */
export function paxHeader(records: readonly [string, string | Uint8Array][], flag = "x"): TarEntry {
  return {
    name: "PaxHeaders/x",
    flag,
    magic: "posix",
    content: new Uint8Array(Buffer.concat(records.map(([key, value]) => paxRecord(key, value)))),
  };
}

/** An ar archive. */
export function makeAr(members: readonly [name: string, content: Uint8Array | string][]) {
  const parts: Uint8Array[] = [Buffer.from("!<arch>\n")];
  for (const [name, content] of members) {
    const bytes = Buffer.from(content);
    const header = name.padEnd(16) + "0".padEnd(12) + "0".padEnd(6) + "0".padEnd(6) +
      "100644".padEnd(8) + String(bytes.length).padEnd(10) + "`\n";
    parts.push(Buffer.from(header, "latin1"), bytes, Buffer.alloc(bytes.length % 2, "\n"));
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** A binary package with the given files, and those of its control.tar. */
export function makeDeb(
  entries: readonly TarEntry[],
  compression: "none" | "gzip" | "zstd" = "gzip",
  control: Readonly<Record<string, string>> = { control: "Package: x\n" },
): Uint8Array<ArrayBuffer> {
  const tar = makeTar(entries);
  const [name, data] = compression === "gzip"
    ? ["data.tar.gz", gzipSync(tar)]
    : compression === "zstd"
    ? ["data.tar.zst", zstdCompressSync(tar)]
    : ["data.tar", tar];
  return makeAr([
    ["debian-binary", "2.0\n"],
    [
      "control.tar.gz",
      gzipSync(
        makeTar(Object.entries(control).map(([name, content]) => ({ name: `./${name}`, content }))),
      ),
    ],
    [name, data],
  ]);
}

/** A directory for one test, removed afterwards. */
export function testDirectory(): { readonly path: string } & Disposable {
  const path = Deno.makeTempDirSync({ prefix: "cloudlet-test-" });
  return {
    path,
    [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }),
  };
}

/** Whether a command that serves as an oracle is installed. */
export function hasCommand(name: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((directory) => {
    try {
      return Deno.statSync(`${directory}/${name}`).isFile;
    } catch {
      return false;
    }
  });
}

/** Runs a command; throws with its messages when it fails. */
export async function command(name: string, ...args: string[]): Promise<Uint8Array<ArrayBuffer>> {
  const { success, stdout, stderr } = await new Deno.Command(name, { args }).output();
  if (!success) throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
  return stdout;
}
