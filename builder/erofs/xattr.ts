/**
 * Extended attributes as EROFS stores them behind an inode.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { EROFS_NAME_LEN } from "./format.ts";

// EROFS_XATTR_INDEX_* of fs/erofs/erofs_fs.h. The names of POSIX ACLs are whole, the others are
// prefixes.
const PREFIXES: readonly (readonly [prefix: string, index: number])[] = [
  ["user.", 1],
  ["system.posix_acl_access", 2],
  ["system.posix_acl_default", 3],
  ["trusted.", 4],
  ["security.", 6],
];
const HEADER_SIZE = 12; // struct erofs_xattr_ibody_header
const ENTRY_SIZE = 4; // struct erofs_xattr_entry
const MAX_VALUE = 0xffff; // e_value_size
const MAX_COUNT = 0xffff; // i_xattr_icount

const utf8 = new TextEncoder();
const NONE = new Uint8Array(0);

interface Entry {
  readonly index: number;
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

function parse(path: string, fullName: string, value: Uint8Array): Entry {
  const refuse = (why: string) =>
    new CloudletError(
      `Cannot store the extended attribute ${JSON.stringify(fullName)} of ${path}: ${why}`,
      { code: "invalid-input", remedy: "leave the attribute out" },
    );
  const found = PREFIXES.find(([prefix]) =>
    prefix.endsWith(".")
      ? fullName.startsWith(prefix) && fullName.length > prefix.length
      : fullName === prefix
  );
  if (found === undefined) throw refuse("EROFS has no name space for it");
  const name = utf8.encode(fullName.slice(found[0].length));
  if (name.length > EROFS_NAME_LEN) throw refuse(`the name is over ${EROFS_NAME_LEN} bytes`);
  if (name.includes(0)) throw refuse("the name has a NUL byte");
  if (value.length > MAX_VALUE) throw refuse(`the value is over ${MAX_VALUE} bytes`);
  return { index: found[1], name, value };
}

/**
 * The inline attributes of one inode, with their header; empty when there are none.
 *
 * @param path for messages
 * @param xattrs values by full name
 * @throws {CloudletError} `invalid-input` for what the format cannot hold
 */
export function encodeXattrs(
  path: string,
  xattrs: ReadonlyMap<string, Uint8Array> | undefined,
): Uint8Array {
  if (xattrs === undefined || xattrs.size === 0) return NONE;
  const entries = [...xattrs].map(([name, value]) => parse(path, name, value))
    .sort((a, b) => a.index - b.index || compare(a.name, b.name));
  const sizes = entries.map(({ name, value }) => align(ENTRY_SIZE + name.length + value.length));
  const total = HEADER_SIZE + sizes.reduce((sum, size) => sum + size, 0);
  if (xattrCount(total) > MAX_COUNT) {
    throw new CloudletError(
      `Cannot store the extended attributes of ${path}: together they are over 256 KiB`,
      { code: "invalid-input", remedy: "leave some of the attributes out" },
    );
  }
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  let at = HEADER_SIZE; // the header is all zero: no shared attributes
  entries.forEach(({ index, name, value }, i) => {
    bytes[at] = name.length;
    bytes[at + 1] = index;
    view.setUint16(at + 2, value.length, true);
    bytes.set(name, at + ENTRY_SIZE);
    bytes.set(value, at + ENTRY_SIZE + name.length);
    at += sizes[i]!;
  });
  return bytes;
}

/** i_xattr_icount for so many bytes of header and attributes. */
export function xattrCount(bytes: number): number {
  return bytes === 0 ? 0 : 1 + (bytes - HEADER_SIZE) / 4;
}

function align(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!;
  }
  return a.length - b.length;
}
