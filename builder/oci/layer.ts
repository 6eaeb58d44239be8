/**
 * Applies a layer to a tree: the OCI image specification 1.1, "Image Layer Filesystem Changeset".
 *
 * "Whiteout files MUST only apply to resources in lower/parent layers", so what the layer itself has
 * brought is kept, whichever comes first in the archive.
 *
 * The result is that of overlay runtimes (docker, containerd, podman), which unpack each layer into a
 * directory of its own and mount it over those below. So a member's path leads through the layer's own
 * symbolic links only, always inside the tree, and its directories hide whatever else lower layers
 * have under their names: files and links, even links to directories.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import type { ByteSource } from "../archive/source.ts";
import { metadataSize, readTar, type TarMember } from "../archive/tar.ts";
import { metadata } from "../archive/unpack.ts";
import type { ImageBudget } from "../limits.ts";
import {
  copyMetadata,
  type DirectoryNode,
  directoryNode,
  type Metadata,
  splitPath,
  type TrailStep,
  type Tree,
  type TreeNode,
} from "../tree.ts";

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
/** What aufs, the file system before overlay, notes for itself; not part of the image. */
const AUFS = ".wh..wh.";
/** Where aufs keeps files that have several names: members may be hard links to these. */
const AUFS_LINKS = ".wh..wh.plnk";

function isAufs(name: string): boolean {
  return name.startsWith(AUFS);
}

/** Attributes that are of the host where the layer was made, or that EROFS has no name space for. */
function isOfImage(name: string): boolean {
  if (name === "security.selinux" || name.startsWith("trusted.overlay.")) return false;
  return /^(?:user|trusted|security)\../.test(name) ||
    name === "system.posix_acl_access" || name === "system.posix_acl_default";
}

/**
 * Adds the members of a layer to the tree of the layers below. Contents stay in the archive.
 *
 * @param source the layer, uncompressed
 * @param budget counts what it has
 * @throws {CloudletError} `untrusted` for a damaged or hostile layer, `invalid-input` for one beyond
 *   the limits; some of it is in the tree then
 */
export function applyLayer(source: ByteSource, tree: Tree, budget: ImageBudget): void {
  const layer = new Application(source, tree);
  for (const member of readTar(source, "optional")) {
    budget.addEntry(metadataSize(member));
    layer.apply(member);
  }
}

class Application {
  readonly #source: ByteSource;
  readonly #tree: Tree;
  /** Names that this layer has brought, or that lead to such. */
  readonly #own = new Map<DirectoryNode, Set<string>>();
  /** Files of {@linkcode AUFS_LINKS} by path. */
  readonly #aufsLinks = new Map<string, TreeNode>();

  constructor(source: ByteSource, tree: Tree) {
    this.#source = source;
    this.#tree = tree;
  }

  apply(member: TarMember): void {
    try {
      this.#apply(member);
    } catch (cause) {
      if (!(cause instanceof CloudletError)) throw cause;
      if (cause.message.startsWith("Cannot unpack ")) throw cause;
      throw this.refuse(member, cause.message, cause);
    }
  }

  refuse(member: TarMember, why: string, cause?: unknown): CloudletError {
    return new CloudletError(
      `Cannot unpack ${this.#source.name}: ${JSON.stringify(member.name.slice(0, 300))}: ${why}`,
      {
        code: "untrusted",
        remedy: "the image is damaged or hostile; report it to whoever made it",
        cause,
      },
    );
  }

  #apply(member: TarMember): void {
    // Names are relative to the root of the image, whether they say so or not.
    const names = splitPath(member.name.replace(/^\/+/, ""));
    const name = names.pop();
    if (name === undefined) {
      if (member.type !== "directory") throw this.refuse(member, "the root must be a directory");
      return copyMetadata(imageMetadata(member), this.#tree.root);
    }
    if (names.some(isAufs) || isAufs(name) && name !== OPAQUE) {
      if (names[0] === AUFS_LINKS && member.type === "file") {
        this.#aufsLinks.set([...names, name].join("/"), this.#node(member));
      }
      return;
    }
    if (name.startsWith(WHITEOUT)) return this.#whiteout(name, this.#descend(names));
    const parent = this.#descend(names);
    if (parent === undefined) {
      throw this.refuse(member, "it lies below something else than a directory");
    }
    // What a link takes the place of cannot be what it links to.
    if (member.type === "hardlink") parent.children.delete(name);
    const node = this.#node(member);
    const existing = parent.children.get(name);
    if (node.type === "directory" && existing?.type === "directory") copyMetadata(node, existing);
    else parent.children.set(name, node);
    this.#remember(parent, name);
  }

  /**
   * The directory that names lead to. What lower layers have on the way stays when it is a directory;
   * anything else becomes one.
   *
   * @returns undefined when the layer itself has something else there
   */
  #descend(names: readonly string[]): DirectoryNode | undefined {
    const trail = this.#tree.trail(names.join("/"), (trail, name) => {
      const { directory } = trail.at(-1)!;
      const found = directory.children.get(name);
      if (found !== undefined && this.#own.get(directory)?.has(name)) return found;
      const node = found?.type === "directory" ? found : this.#newDirectory(trail, name);
      directory.children.set(name, node);
      this.#remember(directory, name);
      return node;
    });
    return trail?.at(-1)?.directory;
  }

  /** As containerd does: with the metadata of the directory that lower layers' links lead to. */
  #newDirectory(trail: readonly TrailStep[], name: string): DirectoryNode {
    splitPath(name); // a link's target may have names that no directory can have
    const made = directoryNode();
    if (trail.at(-1)!.directory.children.get(name)?.type === "symlink") {
      const lower = this.#lookup([...trail.slice(1).map(({ name }) => name), name]);
      if (lower !== undefined) copyMetadata(lower, made);
    }
    return made;
  }

  /** The directory that names lead to, all links followed; undefined when there is none. */
  #lookup(names: readonly string[]): DirectoryNode | undefined {
    try {
      return this.#tree.trail(names.join("/"))?.at(-1)?.directory;
    } catch (error) {
      if (error instanceof CloudletError) return undefined; // links in a circle
      throw error;
    }
  }

  #whiteout(name: string, directory: DirectoryNode | undefined): void {
    if (directory === undefined) return; // nothing is there to be hidden
    if (name === OPAQUE) this.#hideBelow(directory);
    else this.#hide(directory, name.slice(WHITEOUT.length));
  }

  /** Removes what lower layers have put under a name. */
  #hide(parent: DirectoryNode, name: string): void {
    if (!this.#own.get(parent)?.has(name)) {
      parent.children.delete(name);
      return;
    }
    const node = parent.children.get(name);
    if (node?.type === "directory") this.#hideBelow(node);
  }

  #hideBelow(top: DirectoryNode): void {
    const pending = [top]; // not recursive: the archive chooses how deep it is
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      const own = this.#own.get(directory);
      for (const [name, node] of [...directory.children]) {
        if (!own?.has(name)) directory.children.delete(name);
        else if (node.type === "directory") pending.push(node);
      }
    }
  }

  #remember(directory: DirectoryNode, name: string): void {
    const names = this.#own.get(directory);
    if (names === undefined) this.#own.set(directory, new Set([name]));
    else names.add(name);
  }

  #node(member: TarMember): TreeNode {
    switch (member.type) {
      case "directory":
        return { type: "directory", ...imageMetadata(member), children: new Map() };
      case "file": {
        const content = this.#source.content(member.offset, member.size);
        return { type: "file", ...imageMetadata(member), content };
      }
      case "symlink":
        // What Tree.add() would check.
        if (!isTarget(member.linkName)) throw this.refuse(member, "its target cannot be one");
        return { type: "symlink", ...imageMetadata(member), target: member.linkName };
      case "character":
      case "block": {
        const { type, major, minor } = member;
        return { type, ...imageMetadata(member), major, minor };
      }
      case "fifo":
        return { type: "fifo", ...imageMetadata(member) };
      case "hardlink":
        return this.#linked(member);
    }
  }

  /** What a hard link is another name of; it may be of a lower layer. */
  #linked(member: TarMember): TreeNode {
    const refuse = (why: string) =>
      this.refuse(member, `it is a hard link to ${JSON.stringify(member.linkName)}, ${why}`);
    const names = splitPath(member.linkName.replace(/^\/+/, ""));
    const kept = this.#aufsLinks.get(names.join("/"));
    if (kept !== undefined) return kept;
    const name = names.pop();
    const parent = this.#tree.trail(names.join("/"))?.at(-1)?.directory;
    const node = name === undefined ? undefined : parent?.children.get(name);
    if (node === undefined) throw refuse("which is not there");
    if (node.type === "directory") throw refuse("which is a directory");
    return node;
  }
}

function isTarget(target: string): boolean {
  return target !== "" && !target.includes("\0") && target.isWellFormed() &&
    new TextEncoder().encode(target).length < 4096; // Linux PATH_MAX, its NUL included
}

function imageMetadata(member: TarMember): Metadata {
  const data = metadata(member);
  if (data.xattrs === undefined) return data;
  const kept = [...data.xattrs].filter(([name]) => isOfImage(name));
  delete data.xattrs;
  if (kept.length > 0) data.xattrs = new Map(kept);
  return data;
}
