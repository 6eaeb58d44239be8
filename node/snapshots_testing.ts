/**
 * Snapshots of machines that there never were, for tests.
 *
 * @module
 */
import { join } from "node:path";
import type { KeyPart } from "../base/store.ts";
import { OwnedFd } from "../ffi/fd.ts";
import { encodeState } from "../vmm/snapshot/format.ts";
import { identityOf } from "../vmm/snapshot/memory_file.ts";

/** Bytes of their memory. */
export const MEMORY = 4 << 20;

/** Saves one into a directory. */
export async function saveEmpty(directory: string, requires: KeyPart): Promise<void> {
  const memory = join(directory, "memory");
  await Deno.writeFile(memory, new Uint8Array());
  await Deno.truncate(memory, MEMORY);
  using fd = OwnedFd.open(memory, 0);
  const facts = { requires, memory: identityOf(fd.fd), data: 0, made: 0 };
  const pieces = new Map([
    ["facts", new TextEncoder().encode(JSON.stringify(facts))],
    ["memory.digests", new Uint8Array(MEMORY / (2 << 20) * 32)],
  ]);
  await Deno.writeFile(join(directory, "state"), encodeState(pieces));
}
