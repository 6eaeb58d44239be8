/**
 * Reading the bytes of a file in a {@linkcode Tree}, wherever they are.
 *
 * @module
 */
import { writeAll } from "../base/streams.ts";
import { chunksOf, openSource } from "./archive/source.ts";
import { type Content, contentSize } from "./tree.ts";

/**
 * The bytes of `content` in pieces; each piece is only valid until the next one is asked for.
 *
 * @throws {CloudletError} `untrusted` when the host's file is shorter than it was
 */
export function* readContent(content: Content): Generator<Uint8Array> {
  using source = openSource(content);
  yield* chunksOf(source);
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
    await writeAll(file, piece);
  }
}
