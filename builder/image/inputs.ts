/**
 * The Deno binary that is put into images. It has a state, a cheap name that changes when its content
 * does, so that a run need not hash it to find that nothing changed.
 *
 * @module
 */
import type { KeyPart } from "../../base/store.ts";
import { digestOf, openSource } from "../archive/source.ts";

/** State of the Deno binary that is put into images: path, size and time of change. */
export async function denoState(): Promise<KeyPart> {
  const path = Deno.execPath();
  const { size, mtime } = await Deno.stat(path);
  return { path, size, mtime: mtime?.getTime() ?? 0, version: Deno.version.deno };
}

/** SHA-256 of a file, in hex. */
export function fileDigest(path: string): string {
  using source = openSource(path);
  return digestOf(source);
}
