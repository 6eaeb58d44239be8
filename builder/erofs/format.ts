/**
 * The on-disk format of EROFS, as far as uncompressed images need it.
 *
 * Source: Linux 6.1, fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. Names are the
 * kernel's. All integers are little-endian.
 *
 * @module
 */

/** Bytes in a block; DAX wants it to be the page size. */
export const BLOCK_SIZE = 4096;
/** Bytes in a slot of the metadata area; a nid counts slots. */
export const SLOT_SIZE = 32;
/** Bytes in a page that one page-middle-directory entry of x86-64 maps. */
export const HUGE_SIZE = 2 * 1024 * 1024;

/** Where the superblock begins, in bytes. */
export const EROFS_SUPER_OFFSET = 1024;
/** Bytes in the superblock without extension slots. */
export const EROFS_SUPER_SIZE = 128;
const EROFS_SUPER_MAGIC_V1 = 0xe0f5e1e2; // include/uapi/linux/magic.h
const EROFS_FEATURE_COMPAT_SB_CHKSUM = 0x1;
const EROFS_FEATURE_COMPAT_MTIME = 0x2; // the time in an extended inode is the mtime

/** Data layouts of i_format. */
export const EROFS_INODE_FLAT_PLAIN = 0;
/** As plain, but what is left after the last whole block follows the inode. */
export const EROFS_INODE_FLAT_INLINE = 2;
const EROFS_I_DATALAYOUT_BIT = 1;
const EROFS_INODE_LAYOUT_EXTENDED = 1;

/** Bytes in a compact inode: 16-bit owner and links, 32-bit size, the superblock's time. */
export const COMPACT_INODE_SIZE = 32;
/** Bytes in an extended inode. */
export const EXTENDED_INODE_SIZE = 64;
/** Longest name in a directory and longest name of an extended attribute, in bytes. */
export const EROFS_NAME_LEN = 255;
/** Bytes in a directory entry without its name. */
export const DIRENT_SIZE = 12;
/** Largest number of blocks: block addresses have 32 bits and -1 is EROFS_NULL_ADDR. */
export const MAX_BLOCKS = 0xffff_ffff;

/** File types in directory entries: FT_* of Linux include/linux/fs_types.h. */
export const FILE_TYPE = {
  file: 1,
  directory: 2,
  character: 3,
  block: 4,
  fifo: 5,
  socket: 6,
  symlink: 7,
} as const;

/** Type bits of i_mode: S_IF* of Linux include/uapi/linux/stat.h. */
export const MODE_TYPE = {
  fifo: 0o010000,
  character: 0o020000,
  directory: 0o040000,
  block: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
} as const;

/** What an on-disk inode says. */
export interface InodeFields {
  /** Use the 64-byte form. */
  readonly extended: boolean;
  /** EROFS_INODE_FLAT_PLAIN or EROFS_INODE_FLAT_INLINE. */
  readonly layout: number;
  /** i_xattr_icount: 0, or 1 + (bytes of inline attributes after the header) / 4. */
  readonly xattrCount: number;
  /** Type and permission bits. */
  readonly mode: number;
  /** Names that lead to the inode. */
  readonly links: number;
  /** Bytes of content. */
  readonly size: number;
  /** raw_blkaddr, or rdev of a device. */
  readonly union: number;
  /** Number for 32-bit stat(2). */
  readonly ino: number;
  /** Owner. */
  readonly uid: number;
  /** Owner's group. */
  readonly gid: number;
  /** Seconds since 1970; only the extended form holds it. */
  readonly mtime: number;
}

/** Writes a struct erofs_inode_compact or erofs_inode_extended at `at`. */
export function putInode(view: DataView, at: number, inode: InodeFields): void {
  const format = (inode.layout << EROFS_I_DATALAYOUT_BIT) |
    (inode.extended ? EROFS_INODE_LAYOUT_EXTENDED : 0);
  view.setUint16(at, format, true);
  view.setUint16(at + 2, inode.xattrCount, true);
  view.setUint16(at + 4, inode.mode, true);
  if (inode.extended) {
    view.setBigUint64(at + 8, BigInt(inode.size), true);
    view.setUint32(at + 16, inode.union, true);
    view.setUint32(at + 20, inode.ino, true);
    view.setUint32(at + 24, inode.uid, true);
    view.setUint32(at + 28, inode.gid, true);
    view.setBigInt64(at + 32, BigInt(inode.mtime), true);
    view.setUint32(at + 44, inode.links, true);
  } else {
    view.setUint16(at + 6, inode.links, true);
    view.setUint32(at + 8, inode.size, true);
    view.setUint32(at + 16, inode.union, true);
    view.setUint32(at + 20, inode.ino, true);
    view.setUint16(at + 24, inode.uid, true);
    view.setUint16(at + 26, inode.gid, true);
  }
}

/** Writes a struct erofs_dirent at `at`. */
export function putDirent(
  view: DataView,
  at: number,
  nid: number,
  nameOffset: number,
  fileType: number,
): void {
  view.setBigUint64(at, BigInt(nid), true);
  view.setUint16(at + 8, nameOffset, true);
  view.setUint8(at + 10, fileType);
}

/** new_encode_dev() of Linux include/linux/kdev_t.h: 12 bits of major, 20 bits of minor. */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

/** What the superblock says. */
export interface SuperblockFields {
  /** Slot of the root directory; 16 bits. */
  readonly rootNid: number;
  /** Number of inodes. */
  readonly inodes: number;
  /** Time of every compact inode, in seconds since 1970. */
  readonly buildTime: number;
  /** Blocks in the image. */
  readonly blocks: number;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** At most 15 bytes. */
  readonly label: Uint8Array;
}

/**
 * Writes the superblock into the image's first block, and its checksum, which covers the rest of
 * the block too: everything else that belongs in there must be in it already.
 */
export function putSuperblock(block: Uint8Array, fields: SuperblockFields): void {
  const view = new DataView(block.buffer, block.byteOffset + EROFS_SUPER_OFFSET, EROFS_SUPER_SIZE);
  view.setUint32(0, EROFS_SUPER_MAGIC_V1, true);
  view.setUint32(8, EROFS_FEATURE_COMPAT_SB_CHKSUM | EROFS_FEATURE_COMPAT_MTIME, true);
  view.setUint8(12, Math.log2(BLOCK_SIZE)); // blkszbits
  view.setUint16(14, fields.rootNid, true);
  view.setBigUint64(16, BigInt(fields.inodes), true);
  view.setBigInt64(24, BigInt(fields.buildTime), true);
  view.setUint32(36, fields.blocks, true);
  // meta_blkaddr stays 0: nids count from the start of the image, so that none of them is 0, a
  // number that programs take for a deleted file.
  block.set(fields.uuid, EROFS_SUPER_OFFSET + 48);
  block.set(fields.label, EROFS_SUPER_OFFSET + 64);
  // erofs_superblock_csum_verify() of fs/erofs/super.c: from the superblock to the end of its
  // block, the checksum itself as zero.
  view.setUint32(4, crc32c(block.subarray(EROFS_SUPER_OFFSET, BLOCK_SIZE)), true);
}

const CRC32C_POLYNOMIAL = 0x82f63b78; // Castagnoli, bit-reversed: RFC 3720 B.4

/** crc32c(~0, data) as the kernel counts it: without the final inversion. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
  }
  return crc >>> 0;
}
