/**
 * The state file of a snapshot: named pieces of bytes, with a version and a checksum over all of it.
 *
 * ```text
 *  0  "CLOUDLET SNAPSHOT"[0..16)       the magic number
 * 16  u32 version                      of this format, and of what the pieces mean
 * 20  u32 count                        of pieces
 * 24  u64 size                         of the whole file
 * 32  u8[32] digest                    SHA-256 of bytes [0, 32) and [64, size)
 * 64  count x {                        the table
 *       u8[24] name                    ASCII, padded with NUL
 *       u32 offset                     of the piece in the file
 *       u32 length                     of the piece
 *     }
 *  .. the pieces, one after the other, each at a multiple of 8
 * ```
 *
 * Numbers are little-endian. A snapshot is a directory of two files: this one, `state`, and
 * `memory`, the guest's RAM as it is with a hole for every page of zeros, which is mapped and never
 * read as a whole. The pieces:
 *
 * ```text
 * facts              JSON: see {@linkcode SnapshotFacts}
 * memory.digests     SHA-256 of each 2 MiB of `memory`, all zero for one that is a hole
 * vm.clock vm.pit vm.pic0 vm.pic1 vm.ioapic      what KVM_GET_CLOCK, _PIT2 and _IRQCHIP gave; in
 *                    vm.clock, realtime is the host's wall clock
 * vcpu<N>.<what>     of processor N: regs, sregs, xsave, xcrs, msrs, lapic, mp, events, debug, tsc
 * serial             words of the serial port
 * device<N>          JSON of device N; device<N>.registers: its transport
 * ```
 *
 * @module
 */
import { createHash } from "node:crypto";
import { CloudletError, messageOf } from "../../base/errors.ts";

/** Raise it when the file, or the meaning of a piece, changes: older snapshots are then made anew. */
export const FORMAT_VERSION = 5;

const MAGIC = new TextEncoder().encode("CLOUDLET SNAPSHOT".slice(0, 16));
const HEADER_BYTES = 64;
const DIGEST_OFFSET = 32;
const DIGEST_BYTES = 32;
const ENTRY_BYTES = 32;
const NAME_BYTES = 24;
const ALIGNMENT = 8;
/** Far more than any VM has; a file that says more is broken. */
const MAX_PIECES = 4096;
/** The largest state file that is read: mostly digests, 16 bytes for each MiB of RAM. */
export const MAX_STATE_BYTES: number = 64 * 1024 * 1024;

const NAME = /^[a-z][a-z0-9.]{0,23}$/;
const LE = true;

/** The pieces of a state file by name. */
export type Pieces = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** The error for a snapshot that cannot be used. */
export function refuse(why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot use the snapshot: ${why}`, {
    code: "untrusted",
    remedy: "remove it with `cloudlet snapshot rm`; the next run makes it again",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** What says that a file is not there, or is no file: no later attempt will find it. */
const MISSING: ReadonlySet<unknown> = new Set(["ENOENT", "ENOTDIR", "EISDIR", "ELOOP"]);

/**
 * The error for a file of a snapshot that cannot be read: `untrusted` where the file is missing,
 * `host` for all that may pass, such as a lack of descriptors or memory. The snapshot may be good.
 */
export function unreadable(what: string, cause: unknown): CloudletError {
  if (cause instanceof CloudletError) return cause;
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  if (MISSING.has(code)) return refuse(`${what} cannot be opened`, cause);
  return new CloudletError(`Cannot read the snapshot: ${what}: ${messageOf(cause)}`, {
    code: "host",
    remedy: "raise the limit of open files (`ulimit -n`), or free what the message names",
    cause,
  });
}

function digestOf(file: Uint8Array): Uint8Array {
  return createHash("sha256").update(file.subarray(0, DIGEST_OFFSET))
    .update(file.subarray(HEADER_BYTES)).digest();
}

/** Puts a state file together. */
export function encodeState(pieces: Pieces): Uint8Array<ArrayBuffer> {
  const align = (offset: number) => Math.ceil(offset / ALIGNMENT) * ALIGNMENT;
  let size = HEADER_BYTES + pieces.size * ENTRY_BYTES;
  for (const piece of pieces.values()) size = align(size) + piece.length;
  if (pieces.size > MAX_PIECES || size > MAX_STATE_BYTES) {
    throw new RangeError("Cannot write the snapshot: it has too much state");
  }
  const file = new Uint8Array(size);
  const view = new DataView(file.buffer);
  file.set(MAGIC);
  view.setUint32(16, FORMAT_VERSION, LE);
  view.setUint32(20, pieces.size, LE);
  view.setBigUint64(24, BigInt(size), LE);
  let entry = HEADER_BYTES;
  let offset = HEADER_BYTES + pieces.size * ENTRY_BYTES;
  for (const [name, piece] of pieces) {
    if (!NAME.test(name)) throw new RangeError(`Cannot write the snapshot: the name ${name}`);
    offset = align(offset);
    new TextEncoder().encodeInto(name, file.subarray(entry, entry + NAME_BYTES));
    view.setUint32(entry + NAME_BYTES, offset, LE);
    view.setUint32(entry + NAME_BYTES + 4, piece.length, LE);
    file.set(piece, offset);
    entry += ENTRY_BYTES;
    offset += piece.length;
  }
  file.set(digestOf(file), DIGEST_OFFSET);
  return file;
}

/**
 * Takes a state file apart. The pieces are views of it.
 *
 * @param file the whole file
 * @throws {CloudletError} `untrusted` when it is not exactly what {@linkcode encodeState} wrote
 */
export function decodeState(file: Uint8Array<ArrayBuffer>): Pieces {
  if (file.length < HEADER_BYTES) throw refuse("its state file is truncated");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (!MAGIC.every((byte, i) => file[i] === byte)) {
    throw refuse("its state file is of another kind");
  }
  const version = view.getUint32(16, LE);
  if (version !== FORMAT_VERSION) {
    throw refuse(`it has format version ${version}, not ${FORMAT_VERSION}`);
  }
  if (view.getBigUint64(24, LE) !== BigInt(file.length)) {
    throw refuse("its state file is truncated");
  }
  const digest = file.subarray(DIGEST_OFFSET, DIGEST_OFFSET + DIGEST_BYTES);
  if (!digestOf(file).every((byte, i) => byte === digest[i])) {
    throw refuse("the checksum of its state file is wrong");
  }
  const count = view.getUint32(20, LE);
  const tableEnd = HEADER_BYTES + count * ENTRY_BYTES;
  if (count > MAX_PIECES || tableEnd > file.length) throw refuse("its state file is malformed");
  const pieces = new Map<string, Uint8Array<ArrayBuffer>>();
  for (let entry = HEADER_BYTES; entry < tableEnd; entry += ENTRY_BYTES) {
    const name = String.fromCharCode(...file.subarray(entry, entry + NAME_BYTES))
      .replace(/\0+$/, "");
    const offset = view.getUint32(entry + NAME_BYTES, LE);
    const length = view.getUint32(entry + NAME_BYTES + 4, LE);
    if (!NAME.test(name) || pieces.has(name)) throw refuse("its state file is malformed");
    if (offset < tableEnd || offset + length > file.length) {
      throw refuse(`its piece ${name} is out of bounds`);
    }
    pieces.set(name, file.subarray(offset, offset + length));
  }
  return pieces;
}

/** A piece that must be there, of `length` bytes when that is given. */
export function piece(pieces: Pieces, name: string, length?: number): Uint8Array<ArrayBuffer> {
  const found = pieces.get(name);
  if (found === undefined) throw refuse(`it has no ${name}`);
  if (length !== undefined && found.length !== length) throw refuse(`its ${name} has another size`);
  return found;
}

/** A piece of JSON; what it says is not checked. */
export function jsonPiece(pieces: Pieces, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(piece(pieces, name)));
  } catch (cause) {
    if (cause instanceof CloudletError) throw cause;
    throw refuse(`its ${name} is not JSON`, cause);
  }
}
