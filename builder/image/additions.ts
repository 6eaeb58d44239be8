/**
 * What a user adds to an image without making one: files, and what commands changed.
 *
 * @module
 */
import { openSource } from "../archive/source.ts";
import { filesKey, type KeyPart } from "../../base/store.ts";
import type { ImageBudget } from "../limits.ts";
import { directoryNode, fileNode, symlinkNode, Tree, type TreeNode } from "../tree.ts";
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
  /** What commands changed and what was installed, the first one first. */
  readonly layers: readonly AddedLayer[];
}

/** A layer of the OCI image specification. */
export interface AddedLayer {
  /** Names its content. */
  readonly key: string;
  /** Of the archive, uncompressed. */
  readonly path: string;
  /** Where its root is, for one that may change nothing else; the image's root when absent. */
  readonly below?: string | undefined;
}

/** Nothing is added. */
export const NO_ADDITIONS: Additions = { files: [], layers: [] };

/** What tells additions from others; empty for none, so that the keys of plain images stay. */
export function additionsKey({ files, layers }: Additions): { readonly [name: string]: KeyPart } {
  return {
    ...(files.length > 0 && { files: filesKey(files) }),
    ...(layers.length > 0 && { layers: layers.map(({ key, below = "" }) => [key, below]) }),
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
  { files, layers }: Additions,
  budget: ImageBudget,
): Promise<void> {
  // Links come last, as in a workload: no file is put where one leads.
  for (const file of files) if (!file.target) tree.add(file.path, nodeOf(file));
  for (const { path, target } of files) if (target) tree.add(path, symlinkNode(target));
  if (layers.length === 0) return;
  const { applyLayer } = await lazyImport<typeof import("../oci/layer.ts")>(
    "../oci/layer.ts",
    import.meta.url,
  ); // and with it what decompresses
  for (const { path, below } of layers) {
    using source = openSource(path, "what the image's commands changed");
    budget.addBytes(source.size);
    if (below === undefined) applyLayer(source, tree, budget);
    else {
      const own = new Tree();
      applyLayer(source, own, budget);
      tree.add(below, own.root);
    }
  }
}
