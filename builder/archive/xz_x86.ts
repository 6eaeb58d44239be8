/**
 * The x86 filter of xz, with which kernels are packed (Linux scripts/xz_wrap.sh): before LZMA2 it
 * turns the relative targets of CALL and JMP into absolute ones, which repeat more often. The
 * decoder that is used here has no filters, so it gets a stream without one, and the filter is
 * undone afterwards. Source: The .xz File Format 1.1.0, sections 2 to 5.3.2.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { crc32 } from "node:zlib";

const LE = true;
const STREAM_HEADER = 12;
const STREAM_FOOTER = 12;
const CHECK_CRC32 = 1;
const CHECK_SIZE = 4;
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;

/** A stream without the filter. */
export interface PlainXz {
  /** An .xz file of one block without a check. */
  readonly stream: Uint8Array<ArrayBuffer>;
  /** CRC32 of what comes out in the end. */
  readonly check: number;
}

function multibyte(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) bytes.push(value % 128 | 0x80);
  return [...bytes, value];
}

/** Reads a multibyte integer (1.2) that is below 2^35. */
function readMultibyte(bytes: Uint8Array, at: number): { value: number; next: number } {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[at + i] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, next: at + i + 1 };
  }
  throw new Error("an integer is too long");
}

function withCrc(bytes: readonly number[]): number[] {
  const result = [...bytes, 0, 0, 0, 0];
  const crc = crc32(Uint8Array.from(bytes));
  for (let i = 0; i < 4; i++) result[bytes.length + i] = crc >>> (8 * i) & 0xff;
  return result;
}

/**
 * Takes the x86 filter out of an .xz file of one block with a CRC32, as kernels are packed.
 *
 * @returns undefined when the file has no such filter, or is of another shape
 * @throws {Error} when it is damaged
 */
export function withoutX86Filter(xz: Uint8Array): PlainXz | undefined {
  if (xz.length < STREAM_HEADER + STREAM_FOOTER + 16) return undefined;
  const view = new DataView(xz.buffer, xz.byteOffset, xz.length);
  if (xz[7] !== CHECK_CRC32) return undefined;
  const headerSize = (xz[STREAM_HEADER]! + 1) * 4; // 3.1.1
  const filters = STREAM_HEADER + 2;
  // 3.1.2: two filters, no sizes. 5.3.2: x86 without a start offset, then LZMA2 with its dictionary.
  const flags = xz[STREAM_HEADER + 1]!;
  if (flags !== 0x01 || xz[filters] !== FILTER_X86) return undefined;
  if (xz[filters + 1] !== 0 || xz[filters + 2] !== FILTER_LZMA2 || xz[filters + 3] !== 1) {
    return undefined;
  }
  const dictionary = xz[filters + 4]!;

  // 2.1.2.2: the index lies before the footer, which knows its size; 4: one record in it.
  const indexSize = (view.getUint32(xz.length - 8, LE) + 1) * 4;
  const index = xz.length - STREAM_FOOTER - indexSize;
  const check = index - CHECK_SIZE;
  if (check < STREAM_HEADER + headerSize) throw new Error("the index is larger than the file");
  if (xz[index] !== 0 || xz[index + 1] !== 1) return undefined;
  const unpadded = readMultibyte(xz, index + 2);
  const uncompressed = readMultibyte(xz, unpadded.next);

  // The header of the only block keeps its size: what goes away becomes padding.
  const header = new Array<number>(headerSize - 4).fill(0);
  header.splice(0, 5, xz[STREAM_HEADER]!, 0x00, FILTER_LZMA2, 1, dictionary);
  const records = [
    ...[0, 1, ...multibyte(unpadded.value - CHECK_SIZE), ...multibyte(uncompressed.value)],
  ];
  while (records.length % 4 !== 0) records.push(0);
  const newIndex = withCrc(records);
  const backward = newIndex.length / 4 - 1;
  const body = [backward & 0xff, backward >>> 8 & 0xff, backward >>> 16 & 0xff, 0, 0, 0];
  const parts = [
    Uint8Array.from([...xz.subarray(0, 6), ...withCrc([0, 0])]),
    Uint8Array.from(withCrc(header)),
    xz.subarray(STREAM_HEADER + headerSize, check),
    Uint8Array.from(newIndex),
    Uint8Array.from([...withCrc(body).slice(-4), ...body, 0x59, 0x5a]),
  ];
  return { stream: concatBytes(parts), check: view.getUint32(check, LE) };
}

/** Whether the highest byte of an address is one that the filter takes for a near target. */
function near(byte: number): boolean {
  return byte === 0x00 || byte === 0xff;
}

/**
 * Undoes the filter in place, over the whole of a block.
 *
 * The encoder converts an operand unless bytes shortly before it, which look like opcodes too, make
 * that ambiguous. `seen` has a bit for each such opcode among the last three bytes.
 */
export function decodeX86(code: Uint8Array): void {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  const POSITION = [0, 1, 2, 2, 3, 3, 3, 3]; // of the highest bit that counts, by `seen`
  const ALLOWED = [true, true, true, false, true, false, false, false];
  let seen = 0;
  let last = -1;
  for (let i = 0; i < code.length - 4; i++) {
    if ((code[i]! & 0xfe) !== 0xe8) continue; // CALL rel32, JMP rel32
    const distance = i - last;
    last = i;
    seen = distance > 3 ? 0 : seen << (distance - 1) & 7;
    if (seen !== 0) {
      const byte = code[i + 4 - POSITION[seen]!]!;
      if (!ALLOWED[seen] || near(byte)) {
        seen = seen << 1 | 1;
        continue;
      }
    }
    if (!near(code[i + 4]!)) {
      seen = seen << 1 | 1;
      continue;
    }
    let source = view.getUint32(i + 1, LE);
    let target: number;
    for (;;) {
      target = source - (i + 5) >>> 0;
      if (seen === 0) break;
      const shift = POSITION[seen]! * 8;
      if (!near(target >>> (24 - shift) & 0xff)) break;
      source = (target ^ (2 ** (32 - shift) - 1)) >>> 0;
    }
    target &= 0x01ff_ffff;
    if (target & 0x0100_0000) target |= 0xff00_0000;
    view.setUint32(i + 1, target >>> 0, LE);
    i += 4;
  }
}
