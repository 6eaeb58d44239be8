/**
 * Reading tar: POSIX ustar and pax (IEEE Std 1003.1-2017, pax, "ustar Interchange Format" and "pax
 * Interchange Format"), with GNU long names and GNU binary numbers (GNU tar manual, "Basic Tar
 * Format").
 *
 * A reader of its own, since file contents stay where they are: a member is told by its offset, and
 * nothing but headers is read.
 *
 * @module
 */
import { strictUtf8 } from "../../base/bytes.ts";
import { CloudletError } from "../../base/errors.ts";
import type { ByteSource } from "./source.ts";

/** What a member is. */
export type TarMemberType =
  | "file"
  | "hardlink"
  | "symlink"
  | "character"
  | "block"
  | "directory"
  | "fifo";

/** One member of a tar archive. */
export interface TarMember {
  /** Name as the archive has it. */
  readonly name: string;
  /** What it is. */
  readonly type: TarMemberType;
  /** Target of a symbolic link, or name of the member that a hard link is another name of. */
  readonly linkName: string;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
  /** Owner's user id. */
  readonly uid: number;
  /** Owner's group id. */
  readonly gid: number;
  /** Modification time in whole seconds since 1970. */
  readonly mtime: number;
  /** Major number of a device. */
  readonly major: number;
  /** Minor number of a device. */
  readonly minor: number;
  /** Where the content starts in the archive. */
  readonly offset: number;
  /** Length of the content in bytes. */
  readonly size: number;
  /** Extended attributes by full name. */
  readonly xattrs: ReadonlyMap<string, Uint8Array> | undefined;
}

/** About how many bytes a member's names and attributes have. */
export function metadataSize({ name, linkName, xattrs }: TarMember): number {
  let size = name.length + linkName.length;
  for (const [key, value] of xattrs ?? []) size += key.length + value.length;
  return size;
}

const BLOCK = 512;
const MAX_EXTENSION = 1024 * 1024; // bytes of one pax header or long name: far above PATH_MAX
const TYPES: Readonly<Record<string, TarMemberType>> = {
  "\0": "file",
  "0": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "character",
  "4": "block",
  "5": "directory",
  "6": "fifo",
  "7": "file", // contiguous file
};

const latin1 = new TextDecoder("latin1");

/** Records of pax headers, still as bytes, since extended attributes are binary. */
type PaxRecords = Map<string, Uint8Array>;

class Reader {
  constructor(readonly source: ByteSource) {}

  damaged(offset: number, why: string): CloudletError {
    return new CloudletError(
      `Cannot read the archive ${this.source.name}: the header at byte ${offset} ${why}`,
      { code: "untrusted", remedy: "remove the file and let it be fetched again" },
    );
  }

  text(bytes: Uint8Array, offset: number): string {
    try {
      return strictUtf8.decode(bytes);
    } catch (cause) {
      const shown = JSON.stringify(latin1.decode(bytes));
      throw this.damaged(offset, `has the name ${shown}, which is not UTF-8 (${cause})`);
    }
  }

  number(header: Uint8Array, from: number, length: number, offset: number): number {
    const first = header[from]!;
    if (first & 0x80) { // GNU: big-endian two's complement in the remaining bits
      let value = first & 0x40 ? BigInt(first & 0x7f) - 0x80n : BigInt(first & 0x3f);
      for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(header[from + i]!);
      const number = Number(value);
      if (!Number.isSafeInteger(number)) throw this.damaged(offset, "has a number out of range");
      return number;
    }
    const field = latin1.decode(header.subarray(from, from + length));
    const digits = /^ *([0-7]*)[ \0]*$/.exec(field.replace(/\0[\s\S]*$/, ""))?.[1];
    if (digits === undefined) {
      throw this.damaged(offset, `has the malformed number ${JSON.stringify(field)}`);
    }
    return digits === "" ? 0 : Number.parseInt(digits, 8);
  }

  /** Bytes of an extension header's content, which must be copied: reading goes on. */
  extension(offset: number, size: number): Uint8Array {
    if (size > MAX_EXTENSION) throw this.damaged(offset, `has an extension of ${size} bytes`);
    return this.source.read(offset + BLOCK, size).slice();
  }

  pax(bytes: Uint8Array, offset: number, into: PaxRecords): void {
    // "%d %s=%s\n": the number counts the whole record, itself and the newline included.
    for (let at = 0; at < bytes.length;) {
      const space = bytes.indexOf(0x20, at);
      const lengthText = space < 0 ? "" : latin1.decode(bytes.subarray(at, space));
      const end = at + Number(lengthText);
      const equals = bytes.indexOf(0x3d, space);
      if (
        !/^[1-9]\d*$/.test(lengthText) || end > bytes.length || equals < 0 || equals >= end ||
        bytes[end - 1] !== 0x0a
      ) throw this.damaged(offset, "has a malformed pax record");
      const key = this.text(bytes.subarray(space + 1, equals), offset);
      into.set(key, bytes.subarray(equals + 1, end - 1));
      at = end;
    }
  }
}

function cstring(bytes: Uint8Array): Uint8Array {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

function checksumHolds(header: Uint8Array, expected: number): boolean {
  // The sum of all bytes with the checksum field as spaces; old writers summed signed bytes.
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : header[i]!;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  return expected === unsigned || expected === signed;
}

function isZero(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

const SCHILY = "SCHILY.xattr.";

/**
 * The members of a tar archive in order; pax and GNU extension headers are taken into them.
 *
 * @param trailer whether the two zero blocks at the end have to be there; where a digest vouches for
 *   the whole, they need not, and some writers of layers leave them out
 * @throws {CloudletError} `untrusted` for anything malformed, truncated or not supported (sparse
 *   files, multiple volumes)
 */
export function* readTar(
  source: ByteSource,
  trailer: "required" | "optional" = "required",
): Generator<TarMember> {
  const reader = new Reader(source);
  const global: PaxRecords = new Map();
  let local: PaxRecords = new Map();
  let longName: Uint8Array | undefined;
  let longLink: Uint8Array | undefined;
  let offset = 0;
  let ended = false;

  while (offset + BLOCK <= source.size) {
    const header = source.read(offset, BLOCK);
    if (header[0] === 0 && isZero(header)) {
      ended = true;
      break;
    }
    if (!checksumHolds(header, reader.number(header, 148, 8, offset))) {
      throw reader.damaged(offset, "has a wrong checksum");
    }
    const flag = String.fromCharCode(header[156]!);
    const headerSize = reader.number(header, 124, 12, offset);
    if (headerSize < 0) throw reader.damaged(offset, "has a negative size");

    if (flag === "x" || flag === "g" || flag === "L" || flag === "K") {
      const bytes = reader.extension(offset, headerSize);
      if (flag === "x") reader.pax(bytes, offset, local);
      else if (flag === "g") reader.pax(bytes, offset, global);
      else if (flag === "L") longName = cstring(bytes);
      else longLink = cstring(bytes);
      offset += BLOCK + Math.ceil(headerSize / BLOCK) * BLOCK;
      continue;
    }
    const type = TYPES[flag];
    if (type === undefined) {
      const what = flag === "S" ? "is a sparse file" : `has type ${JSON.stringify(flag)}`;
      throw reader.damaged(offset, `${what}, which is not supported`);
    }

    const record = (key: string) => local.get(key) ?? global.get(key);
    const decimal = (key: string, otherwise: () => number): number => {
      const bytes = record(key);
      if (bytes === undefined) return otherwise();
      const value = latin1.decode(bytes);
      if (!/^-?\d+(\.\d*)?$/.test(value)) {
        throw reader.damaged(offset, `has the malformed pax number ${JSON.stringify(value)}`);
      }
      const number = Math.floor(Number(value));
      if (!Number.isSafeInteger(number)) throw reader.damaged(offset, "has a number out of range");
      return number;
    };
    const isPosix = latin1.decode(header.subarray(257, 263)) === "ustar\0";
    const field = (from: number, length: number) => cstring(header.subarray(from, from + length));

    const paxName = record("path");
    let name: string;
    if (paxName !== undefined) {
      name = reader.text(paxName, offset);
    } else if (longName !== undefined) {
      name = reader.text(longName, offset);
    } else {
      name = reader.text(field(0, 100), offset);
      // GNU archives ("ustar  \0") keep other things where POSIX has the prefix.
      const prefix = isPosix ? reader.text(field(345, 155), offset) : "";
      if (prefix !== "") name = `${prefix}/${name}`;
    }
    const linkName = reader.text(record("linkpath") ?? longLink ?? field(157, 100), offset);
    const size = decimal("size", () => headerSize);
    // It would lead back to what was read before, for ever.
    if (size < 0) throw reader.damaged(offset, "has a negative size");
    let xattrs: Map<string, Uint8Array> | undefined;
    for (const records of [global, local]) {
      for (const [key, value] of records) {
        if (key.startsWith("GNU.sparse.")) {
          throw reader.damaged(offset, "is a sparse file, which is not supported");
        }
        if (key.startsWith(SCHILY)) (xattrs ??= new Map()).set(key.slice(SCHILY.length), value);
      }
    }
    // Before pax, a directory was a file whose name ends with a slash.
    const actual = type === "file" && flag !== "7" && name.endsWith("/") ? "directory" : type;
    // Only files have content; some writers give links a size nevertheless.
    const contentSize = actual === "file" ? size : 0;
    const member: TarMember = {
      name,
      type: actual,
      linkName,
      mode: reader.number(header, 100, 8, offset) & 0o7777,
      uid: decimal("uid", () => reader.number(header, 108, 8, offset)),
      gid: decimal("gid", () => reader.number(header, 116, 8, offset)),
      mtime: decimal("mtime", () => reader.number(header, 136, 12, offset)),
      major: type === "character" || type === "block" ? reader.number(header, 329, 8, offset) : 0,
      minor: type === "character" || type === "block" ? reader.number(header, 337, 8, offset) : 0,
      offset: offset + BLOCK,
      size: contentSize,
      xattrs,
    };
    if (offset + BLOCK + contentSize > source.size) {
      throw reader.damaged(offset, `promises ${contentSize} bytes, but the archive ends before`);
    }
    offset += BLOCK + Math.ceil(contentSize / BLOCK) * BLOCK;
    local = new Map();
    longName = undefined;
    longLink = undefined;
    yield member;
  }
  // Two zero blocks end an archive; without any, it may have been cut between two members.
  if (!ended && (trailer === "required" || offset < source.size)) {
    throw reader.damaged(offset, "is missing: the archive is truncated");
  }
  if (local.size > 0 || longName !== undefined || longLink !== undefined) {
    throw reader.damaged(offset, "is missing after an extension header");
  }
}
