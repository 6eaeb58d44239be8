/**
 * Decompression of xz, zstd, gzip and LZ4 (legacy frames) as streams; the format is told by its magic bytes.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import { Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
// CommonJS: only the default import has the class at run time.
import xz from "xz-decompress";
import { CloudletError, messageOf } from "../../base/errors.ts";
import { lz4Legacy } from "./lz4.ts";
import { ZstdFrames } from "./zstd_frames.ts";

/** How bytes are packed. */
export type Compression = "none" | "gzip" | "xz" | "zstd" | "lz4" | "bzip2";

// RFC 1952 2.3.1; the .xz file format 2.1.1.1; RFC 8878 3.1.1; LZ4 Frame Format, "Legacy
// frame"; bzip2 has no specification.
const MAGIC: readonly (readonly [Compression, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["lz4", [0x02, 0x21, 0x4c, 0x18]],
  ["bzip2", [0x42, 0x5a, 0x68]],
];

/** Bytes that {@linkcode detectCompression} needs to tell every format. */
export const MAGIC_LENGTH = 6;

/** Tells the format from the first bytes. */
export function detectCompression(head: Uint8Array): Compression {
  for (const [format, magic] of MAGIC) {
    if (magic.every((byte, i) => head[i] === byte)) return format;
  }
  return "none";
}

/** Options of {@linkcode decompress}. */
export interface DecompressOptions {
  /** For error messages: what is being unpacked. */
  readonly name: string;
  /** Most bytes that may come out; more is an error. Unlimited when absent. */
  readonly limit?: number;
}

function failed(name: string, format: Compression, why: string, cause?: unknown): CloudletError {
  return new CloudletError(`Cannot decompress ${name} (${format}): ${why}`, {
    code: "untrusted",
    remedy: "remove the file and let it be fetched again",
    cause,
  });
}

/** A stream that starts with `head` and goes on with what `reader` has. */
function resume(
  head: Uint8Array<ArrayBuffer>,
  reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>,
  onError: (error: unknown) => void,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let cancelled = false;
  return new ReadableStream({
    start(controller) {
      if (head.length > 0) controller.enqueue(head);
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (cancelled) return; // the decoder gave up meanwhile, and nothing can be put in any more
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        onError(error);
        throw error;
      }
    },
    cancel(reason) {
      cancelled = true;
      return reader.cancel(reason);
    },
  });
}

type WebStream = Parameters<typeof Readable.fromWeb>[0];

async function* through(input: Readable, decoder: Transform): AsyncGenerator<Uint8Array> {
  input.on("error", (error) => decoder.destroy(error));
  try {
    yield* input.pipe(decoder);
  } finally {
    input.destroy();
    decoder.destroy();
  }
}

/** A decoder for each frame, since it stops after one. */
async function* zstd(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let rest: Uint8Array | undefined = new Uint8Array(0);
  const fill = async () => {
    while (rest?.length === 0) rest = (await reader.read()).value;
  };
  async function* frame(): AsyncGenerator<Uint8Array> {
    const frame = new ZstdFrames();
    do {
      await fill();
      if (rest === undefined) throw new Error("unexpected end of file");
      const length = frame.push(rest);
      const piece = rest.subarray(0, length);
      rest = rest.subarray(length);
      yield piece;
    } while (!frame.complete);
  }
  try {
    for (await fill(); rest !== undefined; await fill()) {
      yield* through(Readable.from(frame()), createZstdDecompress());
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function* chunks(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  format: Compression,
): AsyncGenerator<Uint8Array> {
  switch (format) {
    case "xz":
      // The decoder is one per thread: a stream that is neither drained nor cancelled would keep
      // it for ever. Leaving this loop early cancels it.
      yield* new xz.XzReadableStream(stream);
      return;
    case "gzip":
      yield* through(Readable.fromWeb(stream as WebStream), createGunzip());
      return;
    case "zstd":
      yield* zstd(stream);
      return;
    case "lz4":
      yield* lz4Legacy(stream);
      return;
    default:
      yield* stream;
  }
}

/**
 * Decompressed chunks of `stream`; bytes of no known format come out as they are.
 *
 * @throws {CloudletError} `untrusted` for damaged or truncated input and beyond the limit
 */
export async function* decompress(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  options: DecompressOptions,
): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let head: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  while (head.length < MAGIC_LENGTH) {
    const { done, value } = await reader.read();
    if (done) break;
    head = concatBytes([head, value]);
  }
  const format = detectCompression(head);
  const { name, limit = Infinity } = options;
  if (format === "bzip2") {
    await reader.cancel();
    throw failed(name, format, "this format is not supported");
  }
  let total = 0;
  let inputError: unknown; // not a fault of the compressed data
  const input = resume(head, reader, (error) => inputError = error);
  try {
    for await (const chunk of chunks(input, format)) {
      if (chunk.length === 0) continue;
      total += chunk.length;
      if (total > limit) throw failed(name, format, `more than ${limit} bytes come out`);
      yield chunk;
    }
  } catch (cause) {
    if (cause instanceof CloudletError) throw cause;
    if (inputError !== undefined) throw inputError;
    throw failed(name, format, `it is damaged or truncated (${messageOf(cause)})`, cause);
  }
}
