/**
 * What commands changed in a root file system: the upper directory of an overlay, as a layer of the
 * OCI image specification 1.1 ("Image Layer Filesystem Changeset").
 *
 * In the upper directory a character device 0:0 stands for what was removed, and the attribute
 * `trusted.overlay.opaque` for a directory that hides the one below it (Linux
 * Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
 *
 * The archive is POSIX pax (IEEE Std 1003.1-2017).
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { cString, errno, libc } from "./libc.ts";

const BLOCK = 512;
const CHUNK = 256 * 1024;
const MAX_NAME = 100; // bytes of the header's name and linkname
const MAX_ID = 0o7777777; // what seven octal digits hold
const MAX_SIZE = 0o77777777777;
const MAX_XATTRS = 65_536; // XATTR_LIST_MAX and XATTR_SIZE_MAX of include/uapi/linux/limits.h
const OVERLAY = "trusted.overlay.";
const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
// include/uapi/asm-generic/errno.h: there are none, or the file system has none
const ENODATA = 61;
const EOPNOTSUPP = 95;

const utf8 = new TextEncoder();
const latin1 = new TextDecoder("latin1");

/** A member of the archive, before its content. */
interface Header {
  readonly path: string;
  readonly flag: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly size: number;
  readonly link: string;
  readonly device: number;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

/**
 * The upper directory as a tar archive, in pieces.
 *
 * @param upper absolute path
 * @throws {CloudletError} `guest` when the directory cannot be read
 */
export function* packOverlayDiff(upper: string): Generator<Uint8Array<ArrayBuffer>> {
  const out = new Buffer();
  for (const piece of members(upper)) {
    if ("header" in piece) yield* out.add(encode(piece.header));
    else yield* out.add(piece.content);
  }
  yield* out.add(new Uint8Array(2 * BLOCK));
  yield* out.flush();
}

/** Gathers small pieces: each that leaves the microVM costs a message. */
class Buffer {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(CHUNK);
  #filled = 0;

  *add(piece: Uint8Array): Generator<Uint8Array<ArrayBuffer>> {
    for (let rest = piece; rest.length > 0;) {
      const part = rest.subarray(0, CHUNK - this.#filled);
      this.#bytes.set(part, this.#filled);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      if (this.#filled === CHUNK) yield* this.flush();
    }
  }

  *flush(): Generator<Uint8Array<ArrayBuffer>> {
    if (this.#filled === 0) return;
    yield this.#bytes.subarray(0, this.#filled);
    this.#bytes = new Uint8Array(CHUNK); // the piece may be on its way for a while
    this.#filled = 0;
  }
}

type Piece = { readonly header: Header } | { readonly content: Uint8Array };

function* members(upper: string): Generator<Piece> {
  const first = new Map<string, string>(); // path of the first name of a file with several
  const pending = [""];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const host = path === "" ? upper : `${upper}/${path}`;
    const info = Deno.lstatSync(host);
    const xattrs = readXattrs(host);
    const opaque = xattrs.get(`${OVERLAY}opaque`)?.[0] === 0x79; // "y"
    for (const name of [...xattrs.keys()]) if (name.startsWith(OVERLAY)) xattrs.delete(name);
    const common: Omit<Header, "flag"> = {
      path,
      mode: (info.mode ?? 0) & 0o7777,
      uid: info.uid ?? 0,
      gid: info.gid ?? 0,
      mtime: Math.floor((info.mtime?.getTime() ?? 0) / 1000),
      size: 0,
      link: "",
      device: 0,
      xattrs,
    };
    if (info.isDirectory) {
      // The root has nothing below it that it could hide.
      yield { header: { ...common, flag: "5", path: path === "" ? "./" : `${path}/` } };
      const below = path === "" ? "" : `${path}/`;
      if (opaque) yield { header: whiteout(`${below}${OPAQUE}`) };
      const names = Array.from(Deno.readDirSync(host), ({ name }) => `${below}${name}`);
      pending.push(...names.sort().reverse());
      continue;
    }
    if (info.isCharDevice && info.rdev === 0) {
      const slash = path.lastIndexOf("/") + 1;
      yield { header: whiteout(path.slice(0, slash) + WHITEOUT + path.slice(slash)) };
      continue;
    }
    const id = `${info.dev}:${info.ino}`;
    const earlier = (info.nlink ?? 1) > 1 ? first.get(id) : undefined;
    if (earlier !== undefined) {
      yield { header: { ...common, flag: "1", link: earlier, xattrs: new Map() } };
      continue;
    }
    first.set(id, path);
    if (info.isFile) {
      yield { header: { ...common, flag: "0", size: info.size } };
      yield* content(host, info.size);
    } else if (info.isSymlink) {
      yield { header: { ...common, flag: "2", link: Deno.readLinkSync(host) } };
    } else if (info.isFifo) {
      yield { header: { ...common, flag: "6" } };
    } else if (info.isCharDevice || info.isBlockDevice) {
      const flag = info.isCharDevice ? "3" : "4";
      yield { header: { ...common, flag, device: info.rdev ?? 0 } };
    } // a socket is nothing without the process behind it
  }
}

function whiteout(path: string): Header {
  const none = { mode: 0, uid: 0, gid: 0, mtime: 0, size: 0, link: "", device: 0 };
  return { ...none, path, flag: "0", xattrs: new Map() };
}

/** Exactly `size` bytes, whatever happens to the file meanwhile, padded to blocks. */
function* content(path: string, size: number): Generator<Piece> {
  using file = Deno.openSync(path);
  const buffer = new Uint8Array(CHUNK);
  let left = size;
  while (left > 0) {
    const count = file.readSync(buffer.subarray(0, Math.min(CHUNK, left)));
    if (count === null) buffer.fill(0);
    const length = count ?? Math.min(CHUNK, left);
    yield { content: buffer.subarray(0, length) };
    left -= length;
  }
  const padding = (BLOCK - size % BLOCK) % BLOCK;
  if (padding > 0) yield { content: new Uint8Array(padding) };
}

function readXattrs(path: string): Map<string, Uint8Array> {
  const c = libc();
  const xattrs = new Map<string, Uint8Array>();
  const file = cString(path);
  const failed = (what: string) =>
    new CloudletError(`Cannot read ${what} of ${path}: error ${errno()}`, { code: "guest" });
  const list = new Uint8Array(new ArrayBuffer(MAX_XATTRS));
  const length = Number(c.llistxattr(file, list, BigInt(list.length)));
  if (length < 0) {
    if (errno() === EOPNOTSUPP) return xattrs;
    throw failed("the attributes");
  }
  const names = latin1.decode(list.subarray(0, length)).split("\0").filter((name) => name !== "");
  for (const name of names) {
    const value = new Uint8Array(new ArrayBuffer(MAX_XATTRS));
    const size = Number(c.lgetxattr(file, cString(name), value, BigInt(value.length)));
    if (size >= 0) xattrs.set(name, value.slice(0, size));
    else if (errno() !== ENODATA) throw failed(`the attribute ${name}`);
  }
  return xattrs;
}

/** The header, with a pax header before it where it does not say all. */
function encode(header: Header): Uint8Array {
  const records: Uint8Array[] = [];
  const { path, link, uid, gid, size, xattrs } = header;
  if (!fits(path)) records.push(record("path", utf8.encode(path)));
  if (!fits(link)) records.push(record("linkpath", utf8.encode(link)));
  if (uid > MAX_ID) records.push(record("uid", utf8.encode(String(uid))));
  if (gid > MAX_ID) records.push(record("gid", utf8.encode(String(gid))));
  if (size > MAX_SIZE) records.push(record("size", utf8.encode(String(size))));
  for (const [name, value] of xattrs) records.push(record(`SCHILY.xattr.${name}`, value));
  const own = block({ ...header, path: fits(path) ? path : "long", link: fits(link) ? link : "" });
  if (records.length === 0) return own;
  const body = join(records);
  const padding = (BLOCK - body.length % BLOCK) % BLOCK;
  const pax = block({ ...whiteout("pax"), flag: "x", size: body.length });
  return join([pax, body, new Uint8Array(padding), own]);
}

function fits(name: string): boolean {
  return utf8.encode(name).length <= MAX_NAME;
}

/** "%d %s=%s\n", where the number counts the whole record. */
function record(key: string, value: Uint8Array): Uint8Array {
  const rest = join([utf8.encode(` ${key}=`), value, utf8.encode("\n")]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) {
    length = String(length).length + rest.length;
  }
  return join([utf8.encode(String(length)), rest]);
}

function block(header: Header): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const text = (at: number, value: string) => bytes.set(utf8.encode(value), at);
  const octal = (at: number, length: number, value: number) =>
    text(at, value.toString(8).padStart(length - 1, "0"));
  text(0, header.path);
  octal(100, 8, header.mode);
  octal(108, 8, Math.min(header.uid, MAX_ID));
  octal(116, 8, Math.min(header.gid, MAX_ID));
  octal(124, 12, Math.min(header.size, MAX_SIZE));
  octal(136, 12, Math.max(0, header.mtime));
  text(148, "        ");
  text(156, header.flag);
  text(157, header.link);
  text(257, "ustar\x0000");
  // gnu_dev_major and gnu_dev_minor of glibc's sys/sysmacros.h
  octal(329, 8, Math.floor(header.device / 256) & 0xfff);
  octal(337, 8, (header.device & 0xff) + (Math.floor(header.device / 4096) & 0xfff00));
  const sum = bytes.reduce((a, b) => a + b, 0);
  text(148, `${sum.toString(8).padStart(6, "0")}\0 `);
  return bytes;
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
