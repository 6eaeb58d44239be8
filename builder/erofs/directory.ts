/**
 * Directories of EROFS: blocks of sorted entries, each block with its names behind its entries.
 *
 * @module
 */
import { BLOCK_SIZE, DIRENT_SIZE, putDirent } from "./format.ts";

/** One name in a directory. */
export interface DirectoryEntry<Target> {
  /** The name in UTF-8. */
  readonly name: Uint8Array;
  /** What the name leads to. */
  readonly target: Target;
}

/** Which entries go into which block. */
export interface DirectoryPlan<Target> {
  /** Entries of each block, sorted by name over all of them. */
  readonly blocks: readonly (readonly DirectoryEntry<Target>[])[];
  /** i_size: the last block counts as far as it is used. */
  readonly size: number;
}

/**
 * Distributes entries over blocks.
 *
 * @param entries sorted by the bytes of their names, `.` and `..` among them: the kernel searches
 *   by bisection, first for the block, then in it (fs/erofs/namei.c)
 */
export function planDirectory<Target>(
  entries: readonly DirectoryEntry<Target>[],
): DirectoryPlan<Target> {
  const blocks: DirectoryEntry<Target>[][] = [];
  let used = BLOCK_SIZE + 1; // no block yet
  for (const entry of entries) {
    const need = DIRENT_SIZE + entry.name.length;
    if (used + need > BLOCK_SIZE) {
      blocks.push([]);
      used = 0;
    }
    blocks.at(-1)!.push(entry);
    used += need;
  }
  return { blocks, size: blocks.length === 0 ? 0 : (blocks.length - 1) * BLOCK_SIZE + used };
}

/** The content of a planned directory, once it is known where its targets are. */
export function renderDirectory<Target>(
  plan: DirectoryPlan<Target>,
  place: (target: Target) => { nid: number; fileType: number },
): Uint8Array {
  const content = new Uint8Array(plan.size);
  const view = new DataView(content.buffer);
  plan.blocks.forEach((entries, index) => {
    const start = index * BLOCK_SIZE;
    let nameOffset = entries.length * DIRENT_SIZE;
    entries.forEach(({ name, target }, slot) => {
      const { nid, fileType } = place(target);
      putDirent(view, start + slot * DIRENT_SIZE, nid, nameOffset, fileType);
      content.set(name, start + nameOffset);
      nameOffset += name.length;
    });
  });
  return content;
}
