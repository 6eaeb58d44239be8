/**
 * cpio archives of the "newc" kind, as the kernel unpacks them at boot (Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import type { Readable } from "node:stream";
import cpio from "cpio-stream";
import { CloudletError } from "../../base/errors.ts";

/** What every entry has. */
interface CommonEntry {
  /** Path in the archive: ASCII, relative, without `.` and `..`. Parents come first. */
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
}

/** One file of an archive; all belong to root and are of 1970. */
export type CpioEntry =
  & CommonEntry
  & (
    | { readonly type: "directory" }
    | { readonly type: "file"; readonly content: Uint8Array }
    | { readonly type: "symlink"; readonly target: string }
    | { readonly type: "character"; readonly major: number; readonly minor: number }
  );

// cpio-stream has no types of its own: these are the parts used here.
interface Header {
  name: string;
  ino: number;
  mode: number;
  mtime: Date;
  nlink: number;
  rdevmajor: number;
  rdevminor: number;
}
interface Pack extends Readable {
  entry(header: Header, content: Buffer): void;
  finalize(): void;
}

const TYPE_BITS = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  character: 0o020000,
} as const;
const ALIGNMENT = 512; // as cpio(1); the kernel wants a multiple of 4 where archives are joined
const MAX_SIZE = 0xffff_ffff; // c_filesize: 8 hexadecimal digits
const MAX_DEVICE = 0xffff_ffff;

function refuse(entry: CpioEntry, why: string): CloudletError {
  return new CloudletError(`Cannot archive ${JSON.stringify(entry.path)}: ${why}`, {
    code: "invalid-input",
    remedy: "leave the file out or rename it",
  });
}

function check(entry: CpioEntry): void {
  const { path } = entry;
  // cpio-stream counts a name's UTF-16 units where the format wants bytes.
  // deno-lint-ignore no-control-regex
  if (!/^[\x01-\x7f]+$/.test(path)) throw refuse(entry, "the name is not ASCII");
  if (path.split("/").some((name) => name === "" || name === "." || name === "..")) {
    throw refuse(entry, "the name is not a plain relative path");
  }
  if (path === "TRAILER!!!") throw refuse(entry, "the name marks the end of an archive");
  if (!Number.isInteger(entry.mode) || entry.mode < 0 || entry.mode > 0o7777) {
    throw refuse(entry, `mode ${entry.mode} is not permission bits`);
  }
  if (entry.type === "file" && entry.content.length > MAX_SIZE) {
    throw refuse(entry, "it is over 4 GiB");
  }
  if (entry.type === "symlink" && (entry.target === "" || entry.target.includes("\0"))) {
    throw refuse(entry, "the link target is empty or has a NUL byte");
  }
  if (entry.type === "character") {
    for (const part of [entry.major, entry.minor]) {
      if (!Number.isInteger(part) || part < 0 || part > MAX_DEVICE) {
        throw refuse(entry, `device ${entry.major}:${entry.minor} has no such number`);
      }
    }
  }
}

function contentOf(entry: CpioEntry): Buffer {
  if (entry.type === "symlink") return Buffer.from(entry.target);
  if (entry.type !== "file") return Buffer.alloc(0);
  const { buffer, byteOffset, length } = entry.content;
  return Buffer.from(buffer as ArrayBuffer, byteOffset, length);
}

/**
 * Packs entries into a cpio archive; the same entries give the same bytes. Archives may be joined:
 * the kernel unpacks one after the other, and a later file replaces an earlier one.
 *
 * @param entries files, parents before what is in them
 * @returns the archive, a multiple of 512 bytes long
 * @throws {CloudletError} `invalid-input` for a name or value that the format cannot hold
 */
export async function cpioArchive(entries: Iterable<CpioEntry>): Promise<Uint8Array> {
  const pack = cpio.pack({ format: "newc" }) as Pack;
  const chunks: Uint8Array[] = [];
  let size = 0;
  pack.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
  });
  const end = once(pack, "end");
  let ino = 0;
  for (const entry of entries) {
    check(entry);
    pack.entry({
      name: entry.path,
      ino: ++ino,
      mode: TYPE_BITS[entry.type] | entry.mode,
      mtime: new Date(0), // the number 0 would count as missing and become the present time
      nlink: entry.type === "directory" ? 2 : 1,
      rdevmajor: entry.type === "character" ? entry.major : 0,
      rdevminor: entry.type === "character" ? entry.minor : 0,
    }, contentOf(entry));
  }
  pack.finalize();
  await end;
  const padding = new Uint8Array(Math.ceil(size / ALIGNMENT) * ALIGNMENT - size);
  return concatBytes([...chunks, padding]);
}
