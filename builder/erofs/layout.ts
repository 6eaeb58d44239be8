/**
 * Decides where everything in an EROFS image goes, before a byte of content is read.
 *
 * ```text
 * block 0     superblock at 1024, then the metadata area: each inode with its extended attributes
 *             and, for directories and symbolic links, the end of the content (FLAT_INLINE)
 * ...         whole blocks of large directories
 * ...         contents of regular files, each from a block of its own (FLAT_PLAIN)
 * ```
 *
 * Inodes lie in the order in which programs meet them: the root, then for each directory all its
 * children side by side (what `ls -l` and an interpreter's module search read), then the first
 * child directory's, and so on.
 *
 * ## Why large files begin at a multiple of 2 MiB
 *
 * Under DAX a page fault maps the image itself into the process. Per 4 KiB that is one fault, since
 * DAX has no fault-around, and a fault costs about a millisecond on a software-only host. Linux 6.1
 * maps 2 MiB by one fault (CONFIG_FS_DAX_PMD) when, in fs/dax.c:
 *
 * - `dax_fault_check_fallback`: the virtual address and the offset in the file are equal modulo
 *   2 MiB; the 2 MiB lie in one mapping and before the end of the file; it is not a write to a
 *   private mapping;
 * - `dax_iomap_direct_access`: the physical address is a multiple of 2 MiB. So the file begins at a
 *   multiple of 2 MiB in the image, and the pmem device at one in guest-physical memory;
 * - `dax_iomap_pmd_fault`: the extent is contiguous for 2 MiB, which FLAT_PLAIN is.
 *
 * The first condition is for whoever maps the file. Shared libraries meet it: `erofs_file_fops` has
 * `thp_get_unmapped_area`, and linkers give read-only segments equal offsets and addresses. The
 * kernel's ELF loader honours p_align, so that an executable needs p_align = 2 MiB and its segments'
 * offsets equal to their addresses modulo 2 MiB.
 *
 * Smaller files fill the gaps that the alignment leaves; what remains is a hole in the image file.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { CloudletError } from "../../base/errors.ts";
import {
  compareNames,
  type Content,
  contentSize,
  type DirectoryNode,
  type Tree,
  type TreeNode,
} from "../tree.ts";
import {
  type DirectoryEntry,
  type DirectoryPlan,
  planDirectory,
  renderDirectory,
} from "./directory.ts";
import {
  BLOCK_SIZE,
  COMPACT_INODE_SIZE,
  encodeDevice,
  EROFS_INODE_FLAT_INLINE,
  EROFS_INODE_FLAT_PLAIN,
  EROFS_NAME_LEN,
  EROFS_SUPER_OFFSET,
  EROFS_SUPER_SIZE,
  EXTENDED_INODE_SIZE,
  FILE_TYPE,
  HUGE_SIZE,
  MAX_BLOCKS,
  MODE_TYPE,
  putInode,
  putSuperblock,
  SLOT_SIZE,
} from "./format.ts";
import { encodeXattrs, xattrCount } from "./xattr.ts";

/** Content that begins at a block. */
export interface Piece {
  /** Address in blocks. */
  readonly block: number;
  /** What is there; the rest of its last block is zero. */
  readonly content: Content;
  /** Whose content, for messages. */
  readonly path: string;
}

/** A whole image but for the contents of files. */
export interface Layout {
  /** The first blocks: superblock and inodes. */
  readonly metadata: Uint8Array;
  /** Everything else, by address; what lies between is zero. */
  readonly pieces: readonly Piece[];
  /** Blocks in the image. */
  readonly blocks: number;
  /** Number of inodes. */
  readonly inodes: number;
}

interface Inode {
  readonly node: TreeNode;
  readonly path: string;
  readonly xattrs: Uint8Array;
  readonly mtime: number;
  links: number;
  /** Bytes of content. */
  size: number;
  directory?: DirectoryPlan<Inode>;
  nid: number;
  extended: boolean;
  /** Bytes of content right behind the inode. */
  inline: number;
  /** First block of the content that is not inline. */
  block: number;
}

const utf8 = new TextEncoder();
const BLOCKS_PER_HUGE = HUGE_SIZE / BLOCK_SIZE;

function refuse(path: string, why: string): CloudletError {
  return new CloudletError(`Cannot store ${JSON.stringify(path)} in an EROFS image: ${why}`, {
    code: "invalid-input",
    remedy: "leave the file out or change it",
  });
}

function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK_SIZE);
}

function checkMetadata(node: TreeNode, path: string): void {
  const inRange = (value: number, max: number) =>
    Number.isInteger(value) && value >= 0 && value <= max;
  if (!inRange(node.mode, 0o7777)) throw refuse(path, `mode ${node.mode} is not permission bits`);
  if (!inRange(node.uid, 0xffff_ffff)) throw refuse(path, `user id ${node.uid} is not 32 bits`);
  if (!inRange(node.gid, 0xffff_ffff)) throw refuse(path, `group id ${node.gid} is not 32 bits`);
  if (!Number.isSafeInteger(Math.floor(node.mtime))) {
    throw refuse(path, `time ${node.mtime} is no time`);
  }
  if (node.type === "character" || node.type === "block") {
    if (!inRange(node.major, 0xfff) || !inRange(node.minor, 0xfffff)) {
      throw refuse(path, `device ${node.major}:${node.minor} is not 12 and 20 bits`);
    }
  }
}

function checkName(name: string, bytes: Uint8Array, path: string): void {
  if (name === "" || name === "." || name === ".." || /[/\0]/.test(name) || !name.isWellFormed()) {
    throw refuse(path, "its name is none that a file can have");
  }
  if (bytes.length > EROFS_NAME_LEN) throw refuse(path, `its name is over ${EROFS_NAME_LEN} bytes`);
}

/** Every inode once, in the order of the image; directories know their entries. */
function collect(tree: Tree): Inode[] {
  const inodes: Inode[] = [];
  const seen = new Map<TreeNode, Inode>();
  const make = (node: TreeNode, path: string): Inode => {
    checkMetadata(node, path);
    const inode: Inode = {
      node,
      path,
      xattrs: encodeXattrs(path, node.xattrs),
      mtime: Math.floor(node.mtime),
      links: 0,
      size: 0,
      nid: 0,
      extended: false,
      inline: 0,
      block: 0,
    };
    if (node.type === "file") inode.size = contentSize(node.content);
    else if (node.type === "symlink") inode.size = utf8.encode(node.target).length;
    if (!Number.isSafeInteger(inode.size) || inode.size < 0) throw refuse(path, "its size is none");
    inodes.push(inode);
    seen.set(node, inode);
    return inode;
  };
  const root = make(tree.root, "/");
  const pending: { directory: DirectoryNode; inode: Inode; parent: Inode }[] = [
    { directory: tree.root, inode: root, parent: root },
  ];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { directory, inode, parent } = next;
    const prefix = inode.path === "/" ? "/" : `${inode.path}/`;
    const subdirectories: typeof pending = [];
    const entries = new Map<string, DirectoryEntry<Inode>>([
      [".", { name: utf8.encode("."), target: inode }],
      ["..", { name: utf8.encode(".."), target: parent }],
    ]);
    for (const name of [...directory.children.keys()].sort(compareNames)) {
      const node = directory.children.get(name)!;
      const path = prefix + name;
      const bytes = utf8.encode(name);
      checkName(name, bytes, path);
      let child = seen.get(node);
      if (node.type === "directory") {
        if (child !== undefined) throw refuse(path, `it is the directory ${child.path} once more`);
        child = make(node, path);
        child.links = 2; // its name and its own "."
        inode.links++; // its ".."
        subdirectories.push({ directory: node, inode: child, parent: inode });
      } else {
        child ??= make(node, path);
        child.links++;
      }
      entries.set(name, { name: bytes, target: child });
    }
    if (inode === root) inode.links += 2;
    const sorted = [...entries.keys()].sort(compareNames).map((name) => entries.get(name)!);
    inode.directory = planDirectory(sorted);
    inode.size = inode.directory.size;
    pending.push(...subdirectories.reverse());
  }
  return inodes;
}

/** The time that most inodes have, the earliest of several: those inodes can be compact. */
function commonestTime(inodes: readonly Inode[]): number {
  const counts = new Map<number, number>();
  for (const { mtime } of inodes) counts.set(mtime, (counts.get(mtime) ?? 0) + 1);
  let best = 0;
  let bestCount = 0;
  for (const [time, count] of counts) {
    if (count > bestCount || (count === bestCount && time < best)) {
      [best, bestCount] = [time, count];
    }
  }
  return best;
}

/** Gives every inode its slot; returns the bytes of the metadata area. */
function placeInodes(inodes: readonly Inode[], buildTime: number): number {
  let end = EROFS_SUPER_OFFSET + EROFS_SUPER_SIZE;
  for (const inode of inodes) {
    const { node, size } = inode;
    inode.extended = inode.mtime !== buildTime || node.uid > 0xffff || node.gid > 0xffff ||
      inode.links > 0xffff || size > 0xffff_ffff;
    const fixed = inode.extended ? EXTENDED_INODE_SIZE : COMPACT_INODE_SIZE;
    const head = fixed + inode.xattrs.length;
    const tail = size % BLOCK_SIZE;
    // "inline data should be located in the same meta block" (fs/erofs/data.c), and a symbolic link
    // in the block of its inode costs the kernel no further read.
    if (node.type === "directory" || node.type === "symlink") {
      inode.inline = head + tail <= BLOCK_SIZE ? tail : 0;
    }
    const together = head + inode.inline <= BLOCK_SIZE ? head + inode.inline : fixed;
    if (end % BLOCK_SIZE + together > BLOCK_SIZE) end = roundUp(end, BLOCK_SIZE);
    inode.nid = end / SLOT_SIZE;
    end = roundUp(end + head + inode.inline, SLOT_SIZE);
  }
  return roundUp(end, BLOCK_SIZE);
}

/** Gives everything outside the metadata area its blocks; returns the first block after all. */
function placeContents(inodes: readonly Inode[], firstBlock: number): number {
  let end = firstBlock;
  const large: Inode[] = [];
  const small: Inode[] = [];
  for (const inode of inodes) {
    if (inode.size === inode.inline) continue;
    if (inode.node.type === "file") {
      (inode.size >= HUGE_SIZE ? large : small).push(inode);
    } else {
      inode.block = end;
      end += blocksOf(inode.size - inode.inline);
    }
  }
  const gaps: { start: number; end: number }[] = [];
  for (const inode of large) {
    inode.block = roundUp(end, BLOCKS_PER_HUGE);
    gaps.push({ start: end, end: inode.block });
    end = inode.block + blocksOf(inode.size);
  }
  let firstGap = 0;
  for (const inode of small) {
    const blocks = blocksOf(inode.size);
    while (firstGap < gaps.length && gaps[firstGap]!.start === gaps[firstGap]!.end) firstGap++;
    let gap;
    for (let i = firstGap; i < gaps.length && gap === undefined; i++) {
      if (gaps[i]!.end - gaps[i]!.start >= blocks) gap = gaps[i]!;
    }
    if (gap === undefined) {
      inode.block = end;
      end += blocks;
    } else {
      inode.block = gap.start;
      gap.start += blocks;
    }
  }
  return end;
}

/** Where whoever reads the content of a directory or a symbolic link finds it. */
function ownContent(inode: Inode): Uint8Array {
  if (inode.directory !== undefined) {
    return renderDirectory(inode.directory, (target) => ({
      nid: target.nid,
      fileType: FILE_TYPE[target.node.type],
    }));
  }
  return inode.node.type === "symlink" ? utf8.encode(inode.node.target) : new Uint8Array(0);
}

function unionOf({ node, block }: Inode): number {
  return node.type === "character" || node.type === "block"
    ? encodeDevice(node.major, node.minor)
    : block;
}

/** Settings of {@linkcode planImage}. */
export interface LayoutOptions {
  /** Volume name, at most 15 bytes of UTF-8. */
  readonly label?: string;
  /** 16 bytes; without it a version 8 UUID made from the metadata. */
  readonly uuid?: Uint8Array;
}

/**
 * Plans the image of a tree; the same tree gives the same plan.
 *
 * @throws {CloudletError} `invalid-input` for what EROFS cannot hold
 */
export function planImage(tree: Tree, options: LayoutOptions = {}): Layout {
  const label = utf8.encode(options.label ?? "");
  if (label.length > 15 || label.includes(0)) {
    throw new CloudletError(
      `Cannot label an EROFS image ${JSON.stringify(options.label)}: a label has at most 15 bytes`,
      { code: "invalid-input", remedy: "choose a shorter label" },
    );
  }
  if (options.uuid !== undefined && options.uuid.length !== 16) {
    throw new CloudletError("Cannot set the UUID of an EROFS image: it must have 16 bytes", {
      code: "invalid-input",
    });
  }
  const inodes = collect(tree);
  const buildTime = commonestTime(inodes);
  const metadata = new Uint8Array(placeInodes(inodes, buildTime));
  const blocks = placeContents(inodes, metadata.length / BLOCK_SIZE);
  if (blocks > MAX_BLOCKS) throw refuse("/", "all contents together are over 16 TiB");

  const view = new DataView(metadata.buffer);
  const pieces: Piece[] = [];
  inodes.forEach((inode, index) => {
    const { node, xattrs, inline, size, block, path } = inode;
    let at = inode.nid * SLOT_SIZE;
    putInode(view, at, {
      extended: inode.extended,
      layout: inline > 0 ? EROFS_INODE_FLAT_INLINE : EROFS_INODE_FLAT_PLAIN,
      xattrCount: xattrCount(xattrs.length),
      mode: MODE_TYPE[node.type] | node.mode,
      links: inode.links,
      size,
      union: unionOf(inode),
      ino: index + 1,
      uid: node.uid,
      gid: node.gid,
      mtime: inode.mtime,
    });
    at += inode.extended ? EXTENDED_INODE_SIZE : COMPACT_INODE_SIZE;
    metadata.set(xattrs, at);
    if (node.type === "file") {
      if (size > 0) pieces.push({ block, content: node.content, path });
      return;
    }
    const content = ownContent(inode);
    const outside = content.subarray(0, size - inline);
    metadata.set(content.subarray(outside.length), at + xattrs.length);
    if (outside.length > 0) {
      pieces.push({ block, content: { kind: "bytes", bytes: outside }, path });
    }
  });
  pieces.sort((a, b) => a.block - b.block);
  putSuperblock(metadata.subarray(0, BLOCK_SIZE), {
    rootNid: inodes[0]!.nid,
    inodes: inodes.length,
    buildTime,
    blocks,
    uuid: options.uuid ?? uuidOf(metadata),
    label,
  });
  return { metadata, pieces, blocks, inodes: inodes.length };
}

/** A UUID of the custom kind (RFC 9562 5.8) from the hash of `bytes`. */
function uuidOf(bytes: Uint8Array): Uint8Array {
  const uuid = createHash("sha256").update(bytes).digest().subarray(0, 16);
  uuid[6] = 0x80 | (uuid[6]! & 0x0f);
  uuid[8] = 0x80 | (uuid[8]! & 0x3f);
  return uuid;
}
