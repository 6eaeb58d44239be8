/**
 * Archives into a {@linkcode Tree}.
 *
 * @module
 */
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { temporaryIn } from "../../base/files.ts";
import {
  type Content,
  contentSize,
  type FileNode,
  type Metadata,
  splitPath,
  type Tree,
  type TreeNode,
} from "../tree.ts";
import type { ImageBudget } from "../limits.ts";
import { detectCompression, MAGIC_LENGTH } from "./decompress.ts";
import { isFile } from "./files.ts";
import { DecompressPool } from "./decompress_pool.ts";
import { type ByteSource, digestOf, openSource } from "./source.ts";
import { metadataSize, readTar, type TarMember } from "./tar.ts";

/** A member's metadata as a node has it. */
export function metadata(member: TarMember): Metadata {
  return {
    mode: member.mode,
    uid: member.uid,
    gid: member.gid,
    mtime: member.mtime,
    ...(member.xattrs === undefined ? {} : { xattrs: new Map(member.xattrs) }),
  };
}

/**
 * Adds the members of an uncompressed tar archive to a tree. File contents stay in the archive:
 * it must not change or go away while the tree is used.
 *
 * A member may not lie behind a symbolic link of the same archive, and a hard link must name a file
 * that the same archive had before: otherwise the archive is refused.
 *
 * @param source the archive
 * @param tree where its members go
 * @param budget counts what it has
 * @returns the members' names
 * @throws {CloudletError} `untrusted` for a damaged or hostile archive; the tree may then have some
 *   of its members
 */
export function addTar(source: ByteSource, tree: Tree, budget?: ImageBudget): readonly string[] {
  const names: string[] = [];
  const links = new Set<TreeNode>();
  const files = new Map<string, FileNode>();
  for (const member of readTar(source)) {
    names.push(member.name);
    budget?.addEntry(metadataSize(member));
    const node = toNode(source, member, files);
    try {
      // As dpkg does: a symbolic link does not replace a directory of another package.
      if (node.type === "symlink" && isFullDirectory(tree.lookup(memberPath(member.name)))) {
        continue;
      }
      tree.add(member.name, node, links);
    } catch (cause) {
      if (!(cause instanceof CloudletError)) throw cause;
      throw new CloudletError(`Cannot unpack ${source.name}: ${cause.message}`, {
        code: cause.code,
        ...(cause.remedy === undefined ? {} : { remedy: cause.remedy }),
        cause,
      });
    }
    const key = memberPath(member.name);
    files.delete(key);
    if (node.type === "symlink") links.add(node);
    else if (node.type === "file") files.set(key, node);
  }
  return names;
}

/** A member's name as a path in the tree; absolute names and the like are refused. */
function memberPath(name: string): string {
  return splitPath(name).join("/");
}

function isFullDirectory(node: TreeNode | undefined): boolean {
  return node?.type === "directory" && node.children.size > 0;
}

function toNode(
  source: ByteSource,
  member: TarMember,
  files: ReadonlyMap<string, FileNode>,
): TreeNode {
  switch (member.type) {
    case "directory":
      return { type: "directory", ...metadata(member), children: new Map() };
    case "file":
      return {
        type: "file",
        ...metadata(member),
        content: source.content(member.offset, member.size),
      };
    case "symlink":
      return { type: "symlink", ...metadata(member), target: member.linkName };
    case "character":
    case "block":
      return {
        type: member.type,
        ...metadata(member),
        major: member.major,
        minor: member.minor,
      };
    case "fifo":
      return { type: "fifo", ...metadata(member) };
    case "hardlink": {
      const refuse = (why: string) =>
        new CloudletError(
          `Cannot unpack ${source.name}: ${JSON.stringify(member.name)} is a hard link to ` +
            `${JSON.stringify(member.linkName)}, ${why}`,
          {
            code: "untrusted",
            remedy: "the archive is damaged or hostile; fetch it again or report it to its maker",
          },
        );
      const names = member.linkName.split("/").filter((name) => name !== "" && name !== ".");
      if (member.linkName.startsWith("/") || names.includes("..")) {
        throw refuse("which is outside of the archive");
      }
      const node = files.get(names.join("/"));
      if (node === undefined) throw refuse("which is no earlier file of the archive");
      return node;
    }
  }
}

/** Options of {@linkcode unpackTar}. */
export interface UnpackTarOptions {
  /** Directory for the decompressed form of a compressed archive. */
  readonly cache: string;
  /** For error messages; the path when absent. */
  readonly name?: string;
  /** Most bytes that may come out of a compressed archive. */
  readonly limit?: number;
  /** Workers to use; some are started and ended when absent. */
  readonly pool?: DecompressPool;
  /** Ends the work early. */
  readonly signal?: AbortSignal;
}

/**
 * Adds a tar archive, compressed or not, to a tree. A compressed one is decompressed into the cache
 * once, and file contents point there.
 *
 * @param archive path of the archive, or its content (such as a file of another archive)
 * @throws {CloudletError} `untrusted` for a damaged or hostile archive
 */
export async function unpackTar(
  archive: string | Content,
  tree: Tree,
  options: UnpackTarOptions,
): Promise<void> {
  const plain = await decompressedTar(archive, options);
  using source = openSource(plain, options.name);
  addTar(source, tree);
}

async function decompressedTar(
  archive: string | Content,
  options: UnpackTarOptions,
): Promise<string | Content> {
  const { name, content, digest } = identify(archive, options.name);
  if (digest === undefined) return archive;
  const goal = join(options.cache, `${digest}.tar`);
  if (await isFile(goal)) return goal;
  using temporary = temporaryIn(options.cache);
  if (content.kind === "bytes") await Deno.writeFile(temporary.path, content.bytes);
  using own = options.pool === undefined ? new DecompressPool(1) : undefined;
  await (options.pool ?? own!).decompress(
    {
      source: content.kind === "bytes" ? temporary.path : content.path,
      offset: content.kind === "bytes" ? 0 : content.offset,
      size: contentSize(content),
      name,
      ...(options.limit === undefined ? {} : { limit: options.limit }),
    },
    goal,
    options.signal,
  );
  return goal;
}

/** What an archive is called, where its bytes are, and their digest when they are compressed. */
function identify(archive: string | Content, called: string | undefined) {
  using source = openSource(archive, called);
  const content = source.content(0, source.size);
  const head = source.read(0, Math.min(MAGIC_LENGTH, source.size));
  const digest = detectCompression(head) === "none" ? undefined : digestOf(source);
  return { name: source.name, content, digest };
}
