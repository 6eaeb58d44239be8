/**
 * LZ4 in the "legacy frame" that kernels are packed with (LZ4 Frame Format Description, "Legacy
 * frame"; the blocks are of LZ4 Block Format Description). A frame has no end mark: it ends with
 * the input.
 *
 * @module
 */

const LE = true;
const MAGIC = 0x184c_2102;
/** "Each block contains 8 MB of data once decompressed, except the last". */
const BLOCK = 8 * 1024 * 1024;
/** LZ4_compressBound: what a block takes at most that cannot be compressed. */
const MAX_PACKED = BLOCK + Math.floor(BLOCK / 255) + 16;

const MIN_MATCH = 4;
const LONG = 15; // a length of 4 bits that goes on in the next bytes

/** Decodes one block into `target`; returns how many bytes came out. */
function decodeBlock(block: Uint8Array, target: Uint8Array): number {
  const damaged = (why: string) => new Error(`LZ4 block: ${why}`);
  let from = 0;
  let to = 0;
  const longLength = (length: number): number => {
    for (let byte = 255; byte === 255; length += byte) {
      if (from >= block.length) throw damaged("a length is cut off");
      byte = block[from++]!;
    }
    return length;
  };
  while (from < block.length) {
    const token = block[from++]!;
    let literals = token >>> 4;
    if (literals === LONG) literals = longLength(literals);
    if (from + literals > block.length) throw damaged("literals are cut off");
    if (to + literals > target.length) throw damaged("it holds more than a block may");
    target.set(block.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from === block.length) return to; // "the last sequence contains only literals"

    if (from + 2 > block.length) throw damaged("an offset is cut off");
    const offset = block[from]! | block[from + 1]! << 8;
    from += 2;
    let length = token & 0xf;
    if (length === LONG) length = longLength(length);
    length += MIN_MATCH;
    if (offset === 0 || offset > to) throw damaged("a match begins before the block");
    if (to + length > target.length) throw damaged("it holds more than a block may");
    if (offset >= length) {
      target.copyWithin(to, to - offset, to - offset + length);
      to += length;
    } else { // it repeats what it has just written
      for (const end = to + length; to < end; to++) target[to] = target[to - offset]!;
    }
  }
  throw damaged("its last sequence has a match");
}

/** A stream's bytes by number. */
class Bytes {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(reader: ReadableStreamDefaultReader<Uint8Array>) {
    this.#reader = reader;
  }

  /** `length` bytes; undefined at the end of the stream. */
  async take(length: number): Promise<Uint8Array | undefined> {
    const result = new Uint8Array(length);
    let got = 0;
    while (got < length) {
      if (this.#rest.length === 0) {
        const { done, value } = await this.#reader.read();
        if (done && got === 0) return undefined;
        if (done) throw new Error("unexpected end of file");
        this.#rest = value;
      }
      const piece = this.#rest.subarray(0, length - got);
      result.set(piece, got);
      got += piece.length;
      this.#rest = this.#rest.subarray(piece.length);
    }
    return result;
  }
}

/**
 * The decompressed blocks of a stream.
 *
 * @throws {Error} for damaged or truncated input
 */
export async function* lz4Legacy(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    const bytes = new Bytes(reader);
    const target = new Uint8Array(BLOCK);
    for (let first = true;; first = false) {
      const head = await bytes.take(4);
      if (head === undefined) return;
      const size = new DataView(head.buffer as ArrayBuffer).getUint32(0, LE);
      if (size === MAGIC) continue; // frames may be joined
      if (first) throw new Error("this is no LZ4 legacy frame");
      if (size > MAX_PACKED) throw new Error(`an LZ4 block of ${size} bytes is too long`);
      const block = await bytes.take(size);
      if (block === undefined) throw new Error("unexpected end of file");
      yield target.slice(0, decodeBlock(block, target));
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
