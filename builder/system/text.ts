/**
 * Small text files of a {@linkcode Tree}, read and written.
 *
 * @module
 */
import { contentBytes } from "../content.ts";
import { contentSize, directoryNode, fileNode, type Metadata, type Tree } from "../tree.ts";

const MAX_TEXT = 4 * 1024 * 1024; // bytes; what is longer is no configuration file
const MAX_LINKS = 8;

/** Text of the file at a path, through links to other files; undefined when there is none. */
export function readText(tree: Tree, path: string): string | undefined {
  let node = tree.lookup(path);
  for (let links = 0; node?.type === "symlink" && links < MAX_LINKS; links++) {
    const { target } = node;
    path = target.startsWith("/") ? target : `${path.slice(0, path.lastIndexOf("/") + 1)}${target}`;
    if (path.split("/").includes("..")) return undefined; // not worth the trouble here
    node = tree.lookup(path);
  }
  if (node?.type !== "file" || contentSize(node.content) > MAX_TEXT) return undefined;
  return new TextDecoder().decode(contentBytes(node.content));
}

/** Names in a directory, sorted; none when there is no such directory. */
export function namesIn(tree: Tree, path: string): string[] {
  const node = tree.lookup(path);
  return node?.type === "directory" ? [...node.children.keys()].sort() : [];
}

/** Adds a file where nothing is. */
export function addMissing(
  tree: Tree,
  path: string,
  content: string | Uint8Array | undefined,
  metadata: Partial<Metadata> = {},
): void {
  if (content !== undefined && tree.lookup(path) === undefined) {
    tree.add(path, fileNode(content, metadata));
  }
}

/** Adds a directory where nothing is. */
export function addDirectory(tree: Tree, path: string, metadata: Partial<Metadata> = {}): void {
  if (tree.lookup(path) === undefined) tree.add(path, directoryNode(metadata));
}
