/**
 * Reading the bytes of a file in a {@linkcode Tree}, wherever they are.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { type Content, contentSize } from "./tree.ts";

const CHUNK = 1 << 20; // bytes; large enough that the number of calls does not matter

/** The bytes of `content` in pieces; each piece is only valid until the next one is asked for. */
export function* readContent(content: Content): Generator<Uint8Array> {
  if (content.kind === "bytes") {
    if (content.bytes.length > 0) yield content.bytes;
    return;
  }
  using file = Deno.openSync(content.path);
  file.seekSync(content.offset, Deno.SeekMode.Start);
  const buffer = new Uint8Array(Math.min(CHUNK, content.size));
  for (let left = content.size; left > 0;) {
    const count = file.readSync(buffer.subarray(0, Math.min(left, buffer.length)));
    if (count === null) {
      throw new CloudletError(`Cannot read ${content.path}: it is shorter than it was`, {
        code: "untrusted",
        remedy: "remove it; it is fetched again",
      });
    }
    yield buffer.subarray(0, count);
    left -= count;
  }
}

/** All bytes of `content` at once; for small files. */
export function contentBytes(content: Content): Uint8Array {
  const bytes = new Uint8Array(contentSize(content));
  let offset = 0;
  for (const piece of readContent(content)) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

/** Writes `content` to a new file of the host. */
export async function copyContent(content: Content, path: string): Promise<void> {
  using file = await Deno.open(path, { createNew: true, write: true });
  for (const piece of readContent(content)) {
    for (let rest = piece; rest.length > 0;) rest = rest.subarray(await file.write(rest));
  }
}
