/**
 * What a user adds to an image without making one: files, and what commands changed.
 *
 * @module
 */
import { openSource } from "../archive/source.ts";
import { filesKey, type KeyPart } from "../../base/store.ts";
import type { ImageBudget } from "../limits.ts";
import { directoryNode, fileNode, symlinkNode, type Tree, type TreeNode } from "../tree.ts";
import { lazyImport } from "../../base/lazy_import.ts";

/** A file to add. */
export interface AddedFile {
  /** Where it goes, relative to the root. */
  readonly path: string;
  readonly content: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
  /** Where it leads, when it is a symbolic link. */
  readonly target?: string | undefined;
  /** Whether it is a directory. */
  readonly directory?: boolean | undefined;
}

/** What is added to an image, after its packages. */
export interface Additions {
  readonly files: readonly AddedFile[];
  /** What commands changed, as a layer of the OCI image specification. */
  readonly layer?: { readonly key: string; readonly path: string } | undefined;
}

/** Nothing is added. */
export const NO_ADDITIONS: Additions = { files: [] };

/** What tells additions from others; empty for none, so that the keys of plain images stay. */
export function additionsKey({ files, layer }: Additions): { readonly [name: string]: KeyPart } {
  return {
    ...(files.length > 0 && { files: filesKey(files) }),
    ...(layer !== undefined && { layer: layer.key }),
  };
}

function nodeOf({ content, mode, directory }: AddedFile): TreeNode {
  return directory ? directoryNode() : fileNode(content, { mode: mode === 0 ? 0o644 : mode });
}

/**
 * Adds them to the tree.
 *
 * @param budget counts what they have
 * @throws {CloudletError} `untrusted` for a path that a file of the image is in the way of,
 *   `invalid-input` beyond the limits
 */
export async function applyAdditions(
  tree: Tree,
  { files, layer }: Additions,
  budget: ImageBudget,
): Promise<void> {
  // Links come last, as in a workload: no file is put where one leads.
  for (const file of files) if (!file.target) tree.add(file.path, nodeOf(file));
  for (const { path, target } of files) if (target) tree.add(path, symlinkNode(target));
  if (layer === undefined) return;
  const { applyLayer } = await lazyImport<typeof import("../oci/layer.ts")>(
    "../oci/layer.ts",
    import.meta.url,
  ); // and with it what decompresses
  using source = openSource(layer.path, "what the image's commands changed");
  budget.addBytes(source.size);
  applyLayer(source, tree, budget);
}
