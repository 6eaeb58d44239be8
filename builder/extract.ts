/**
 * Writes a {@linkcode Tree} into a directory of the host: the root in which the kernel's compiler
 * runs.
 *
 * @module
 */
import { lchownSync } from "node:fs";
import { join } from "node:path";
import { CloudletError } from "../base/errors.ts";
import { diskError, writeAllSync } from "../base/files.ts";
import { ContentReader } from "./content_reader.ts";
import {
  contentSize,
  type DirectoryNode,
  type FileNode,
  type Metadata,
  type Tree,
  type TreeNode,
} from "./tree.ts";

const BUFFER_SIZE = 1024 * 1024;
const SET_ID = 0o6000;
const NODES_PER_TURN = 256;

/**
 * Writes every node of `tree` below `directory`.
 *
 * As root, owners are kept. As anybody else all belongs to the caller, and set-user-id and
 * set-group-id are dropped, since they would mean another user. Devices, pipes, sockets and extended
 * attributes are left out, and so are the times of symbolic links.
 *
 * No symbolic link is ever followed: every parent was made here a moment before, and `directory`
 * must be empty and in nobody else's reach.
 *
 * @param tree what to write
 * @param directory an empty directory, or one that does not exist yet
 * @throws {CloudletError} `host` when the file system refuses, `invalid-input` when the directory is
 *   not empty; a part of the tree may be left then
 */
export async function extractTree(tree: Tree, directory: string): Promise<void> {
  await Deno.mkdir(directory, { recursive: true });
  // Where that really is: below it only plain names are added.
  const root = await Deno.realPath(directory);
  for await (const { name } of Deno.readDir(root)) {
    throw new CloudletError(`Cannot extract into ${directory}: it holds ${JSON.stringify(name)}`, {
      code: "invalid-input",
      remedy: "name an empty directory",
    });
  }
  try {
    using extraction = new Extraction(Deno.uid() === 0);
    extraction.directory(tree.root, root);
    let done = 0;
    for (const [path, node] of tree.entries()) {
      extraction.node(node, join(root, path));
      // Now and then signals and progress bars get their turn.
      if (++done % NODES_PER_TURN === 0) await new Promise((resolve) => setTimeout(resolve));
    }
    extraction.finish();
  } catch (cause) {
    throw diskError(`Cannot extract into ${directory}`, cause);
  }
}

/** Nodes are written one after the other by synchronous calls: awaiting each one takes far longer. */
class Extraction implements Disposable {
  readonly #asRoot: boolean;
  readonly #reader = new ContentReader();
  readonly #buffer = new Uint8Array(BUFFER_SIZE);
  /** Where hard links lead. */
  readonly #written = new Map<FileNode, string>();
  /** Their owner, mode and time are set at the end: writing into them needs and changes these. */
  readonly #directories: { path: string; node: DirectoryNode }[] = [];

  constructor(asRoot: boolean) {
    this.#asRoot = asRoot;
  }

  /** Writes a node at `path`, where nothing is yet. */
  node(node: TreeNode, path: string): void {
    switch (node.type) {
      case "directory":
        Deno.mkdirSync(path, { mode: 0o700 });
        return this.directory(node, path);
      case "file":
        return this.#file(node, path);
      case "symlink":
        Deno.symlinkSync(node.target, path);
        if (this.#asRoot) lchownSync(path, node.uid, node.gid);
        return;
      case "character":
      case "block":
      case "fifo":
      case "socket":
        return;
    }
  }

  /** Notes a directory that exists at `path`. */
  directory(node: DirectoryNode, path: string): void {
    this.#directories.push({ path, node });
  }

  /** Sets what is left, children before parents. */
  finish(): void {
    for (const { path, node } of this.#directories.reverse()) {
      this.#setMetadata(node, path);
      Deno.utimeSync(path, node.mtime, node.mtime);
    }
  }

  [Symbol.dispose](): void {
    this.#reader[Symbol.dispose]();
  }

  #file(node: FileNode, path: string): void {
    const first = this.#written.get(node);
    if (first !== undefined) return Deno.linkSync(first, path);
    this.#written.set(node, path);
    {
      // createNew is O_EXCL: it opens nothing that is there already, not even through a link.
      using file = Deno.openSync(path, { createNew: true, write: true, mode: 0o600 });
      const size = contentSize(node.content);
      for (let done = 0; done < size;) {
        const part = this.#buffer.subarray(0, size - done);
        this.#reader.read(node.content, done, part, path);
        writeAllSync(file, part);
        done += part.length;
      }
      file.utimeSync(node.mtime, node.mtime);
    }
    this.#setMetadata(node, path);
  }

  #setMetadata(node: Metadata, path: string): void {
    if (this.#asRoot) Deno.chownSync(path, node.uid, node.gid); // drops set-user-id: chmod after it
    Deno.chmodSync(path, this.#asRoot ? node.mode : node.mode & ~SET_ID);
  }
}
