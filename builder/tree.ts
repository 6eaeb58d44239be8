/**
 * A file tree in memory: what archives are merged into, and what image writers read.
 *
 * Nothing here touches the host's file system, so a hostile archive has nothing to escape to; what
 * it could still do is to confuse the image, and {@linkcode Tree.add} refuses that.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";

/** Where the bytes of a regular file are. */
export type Content =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  /** `size` bytes of the host's file `path`, from `offset` on; the file must not change. */
  | {
    readonly kind: "file";
    readonly path: string;
    readonly offset: number;
    readonly size: number;
  };

/** What every kind of node has. */
export interface Metadata {
  /** Permission bits, 0 to 0o7777 (with set-uid, set-gid and sticky). */
  mode: number;
  /** Owner's user id. */
  uid: number;
  /** Owner's group id. */
  gid: number;
  /** Modification time in seconds since 1970. */
  mtime: number;
  /** Extended attributes by full name, such as `security.capability`. */
  xattrs?: Map<string, Uint8Array>;
}

/** A directory. */
export interface DirectoryNode extends Metadata {
  readonly type: "directory";
  readonly children: Map<string, TreeNode>;
}

/** A regular file; hard links are one node under several names. */
export interface FileNode extends Metadata {
  readonly type: "file";
  readonly content: Content;
}

/** A symbolic link. */
export interface SymlinkNode extends Metadata {
  readonly type: "symlink";
  readonly target: string;
}

/** A character or block device. */
export interface DeviceNode extends Metadata {
  readonly type: "character" | "block";
  readonly major: number;
  readonly minor: number;
}

/** A named pipe or a socket. */
export interface SpecialNode extends Metadata {
  readonly type: "fifo" | "socket";
}

/** Anything that a directory can hold. */
export type TreeNode = DirectoryNode | FileNode | SymlinkNode | DeviceNode | SpecialNode;

/** Length in bytes of a regular file's content. */
export function contentSize(content: Content): number {
  return content.kind === "bytes" ? content.bytes.length : content.size;
}

const MAX_LINKS = 40; // as Linux: include/linux/namei.h MAXSYMLINKS
const MAX_NAME = 255; // bytes, as Linux NAME_MAX
const MAX_TARGET = 4095; // bytes, as Linux PATH_MAX less its NUL

function refuse(path: string, why: string): CloudletError {
  return new CloudletError(`Cannot add ${JSON.stringify(path)} to the file tree: ${why}`, {
    code: "untrusted",
    remedy: "the archive is damaged or hostile; fetch it again or report it to whoever made it",
  });
}

const utf8 = new TextEncoder();

/** The names in an archive member's path: `./usr/bin/` gives `["usr", "bin"]`. */
export function splitPath(path: string): string[] {
  if (path.startsWith("/")) throw refuse(path, "the name is absolute");
  if (path.includes("\0")) throw refuse(path, "the name has a NUL byte");
  // Half a surrogate pair has no UTF-8: two names would become one.
  if (!path.isWellFormed()) throw refuse(path, "the name is not Unicode");
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  for (const name of names) {
    if (name === "..") throw refuse(path, 'the name has a ".." in it');
    if (name.length > MAX_NAME || utf8.encode(name).length > MAX_NAME) {
      throw refuse(path, `a name is longer than ${MAX_NAME} bytes`);
    }
  }
  return names;
}

/** A directory node with default metadata. */
export function directoryNode(metadata: Partial<Metadata> = {}): DirectoryNode {
  return {
    type: "directory",
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: 0,
    ...metadata,
    children: new Map(),
  };
}

/** A regular file node with the given bytes (text as UTF-8) and default metadata. */
export function fileNode(content: string | Uint8Array, metadata: Partial<Metadata> = {}): FileNode {
  const bytes = typeof content === "string" ? utf8.encode(content) : content;
  return {
    type: "file",
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: 0,
    ...metadata,
    content: { kind: "bytes", bytes },
  };
}

/** A symbolic link node with default metadata. */
export function symlinkNode(target: string, metadata: Partial<Metadata> = {}): SymlinkNode {
  return { type: "symlink", mode: 0o777, uid: 0, gid: 0, mtime: 0, ...metadata, target };
}

/** A directory on the way to another. */
export interface TrailStep {
  /** Its name in the directory before; "" of the root. */
  readonly name: string;
  readonly directory: DirectoryNode;
}

/** Finds or makes the node of a name in the last directory of a trail. */
export type NextStep = (trail: readonly TrailStep[], name: string) => TreeNode | undefined;

/** A root directory and what can be done to the tree below it. */
export class Tree {
  /** The directory `/`. */
  readonly root: DirectoryNode = directoryNode();

  /**
   * The node at `path`, following symbolic links in all but the last name, or undefined.
   *
   * @param path relative to the root; a leading `/` is allowed here
   */
  lookup(path: string): TreeNode | undefined {
    const names = splitPath(path.replace(/^\/+/, ""));
    const last = names.pop();
    if (last === undefined) return this.root;
    return this.#walk(names, path)?.children.get(last);
  }

  /**
   * The directories that lead to the directory `path`, symbolic links followed: from the root, whose
   * name is "", each with its own name.
   *
   * @param path relative to the root
   * @param next the node of a name in the last directory of the trail so far; what is there when
   *   absent
   * @returns undefined when something on the way is missing or no directory
   * @throws {CloudletError} `untrusted` for too many links
   */
  trail(path: string, next?: NextStep): TrailStep[] | undefined {
    return this.#trail(splitPath(path), path, { next });
  }

  /**
   * Puts a node at `path`. Missing parents are made; a directory over a directory updates the
   * metadata and keeps the children; a directory over a symbolic link to a directory is taken as
   * that directory (as dpkg does on a merged-/usr system); anything else replaces what was there.
   *
   * @param path relative to the root
   * @param node what to put there
   * @param untrustedLinks symbolic links that may not be followed on the way: those that the same
   *   archive made, since a member behind its own archive's link is how an archive escapes
   * @throws {CloudletError} `untrusted` for a path that leaves the tree or leads through a file
   */
  add(path: string, node: TreeNode, untrustedLinks?: ReadonlySet<TreeNode>): void {
    const names = splitPath(path);
    if (node.type === "symlink") {
      if (node.target === "" || utf8.encode(node.target).length > MAX_TARGET) {
        throw refuse(path, `a link target must have 1 to ${MAX_TARGET} bytes`);
      }
      if (node.target.includes("\0")) throw refuse(path, "the link target has a NUL byte");
      if (!node.target.isWellFormed()) throw refuse(path, "the link target is not Unicode");
    }
    const last = names.pop();
    if (last === undefined) {
      if (node.type !== "directory") throw refuse(path, "the root must be a directory");
      copyMetadata(node, this.root);
      return;
    }
    const parent = this.#walk(names, path, { create: true, untrustedLinks });
    if (parent === undefined) throw refuse(path, "a parent is not a directory");
    const existing = parent.children.get(last);
    if (node.type === "directory" && existing !== undefined) {
      if (existing.type === "directory") {
        copyMetadata(node, existing);
        for (const [name, child] of node.children) existing.children.set(name, child);
        return;
      }
      if (existing.type === "symlink" && !untrustedLinks?.has(existing)) {
        const target = this.#walk([...names, last], path, { untrustedLinks });
        if (target !== undefined) {
          for (const [name, child] of node.children) target.children.set(name, child);
          return;
        }
      }
    }
    if (node.type !== "directory" && existing?.type === "directory" && existing.children.size > 0) {
      throw refuse(path, "a directory that is not empty is in its place");
    }
    parent.children.set(last, node);
  }

  /** Removes what is at `path`, with everything below it; false when nothing is there. */
  remove(path: string): boolean {
    const names = splitPath(path.replace(/^\/+/, ""));
    const last = names.pop();
    if (last === undefined) throw refuse(path, "the root cannot be removed");
    return this.#walk(names, path)?.children.delete(last) ?? false;
  }

  /** Every node below the root with its path (no leading slash), parents first, names sorted. */
  *entries(): Generator<readonly [path: string, node: TreeNode]> {
    // Not recursive: a hostile archive chooses how deep the tree is.
    const pending = [{ names: sortedNames(this.root), next: 0, directory: this.root, prefix: "" }];
    for (let here = pending.at(-1); here !== undefined; here = pending.at(-1)) {
      const name = here.names[here.next++];
      if (name === undefined) {
        pending.pop();
        continue;
      }
      const node = here.directory.children.get(name);
      if (node === undefined) continue; // removed by whoever is reading
      const path = here.prefix + name;
      yield [path, node];
      if (node.type === "directory") {
        pending.push({ names: sortedNames(node), next: 0, directory: node, prefix: `${path}/` });
      }
    }
  }

  #walk(
    names: readonly string[],
    path: string,
    options: { create?: boolean; untrustedLinks?: ReadonlySet<TreeNode> | undefined } = {},
  ): DirectoryNode | undefined {
    return this.#trail(names, path, options)?.at(-1)?.directory;
  }

  #trail(
    names: readonly string[],
    path: string,
    options: {
      create?: boolean;
      untrustedLinks?: ReadonlySet<TreeNode> | undefined;
      next?: NextStep | undefined;
    },
  ): TrailStep[] | undefined {
    const pending = [...names].reverse();
    const trail: TrailStep[] = [{ name: "", directory: this.root }];
    let links = 0;
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      if (name === "" || name === ".") continue;
      const here = trail.at(-1)!.directory;
      if (name === "..") { // only ever from a link's target; "/.." is "/"
        if (trail.length > 1) trail.pop();
        continue;
      }
      let next = options.next === undefined ? here.children.get(name) : options.next(trail, name);
      if (next === undefined) {
        if (!options.create) return undefined;
        next = directoryNode();
        here.children.set(name, next);
      }
      if (next.type === "directory") {
        trail.push({ name, directory: next });
      } else if (next.type === "symlink") {
        if (options.untrustedLinks?.has(next)) {
          throw refuse(path, `"${name}" on the way is a symbolic link of the same archive`);
        }
        if (++links > MAX_LINKS) throw refuse(path, "too many symbolic links on the way");
        if (next.target.startsWith("/")) trail.length = 1;
        pending.push(...next.target.split("/").reverse());
      } else {
        return undefined;
      }
    }
    return trail;
  }
}

/** Makes `to` have the metadata of `from`. */
export function copyMetadata(from: Metadata, to: Metadata): void {
  to.mode = from.mode;
  to.uid = from.uid;
  to.gid = from.gid;
  to.mtime = from.mtime;
  if (from.xattrs === undefined) delete to.xattrs;
  else to.xattrs = from.xattrs;
}

function sortedNames(directory: DirectoryNode): string[] {
  return [...directory.children.keys()].sort(compareNames);
}

/** Orders names by their UTF-8 bytes, as EROFS directories are sorted. */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return codePointRank(x) - codePointRank(y);
  }
  return a.length - b.length;
}

/** UTF-16 orders like UTF-8 but that surrogates, U+10000 and up, belong behind U+E000 to U+FFFF. */
function codePointRank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
