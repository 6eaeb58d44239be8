/**
 * Writing EROFS images beside mkfs.erofs, from the same files.
 *
 * @module
 */
import { join } from "node:path";
import { writeAllSync } from "../base/files.ts";
import { writeErofs } from "../builder/erofs/mod.ts";
import { readContent } from "../builder/content.ts";
import {
  contentSize,
  directoryNode,
  type Metadata,
  symlinkNode,
  Tree,
  type TreeNode,
} from "../builder/tree.ts";
import { inTurns, report } from "./report.ts";

const REPETITIONS = 7;

/** The files below a directory of the host as a tree; hard links stay links. */
function treeOf(directory: string): Tree {
  const tree = new Tree();
  const inodes = new Map<string, TreeNode>();
  const walk = (path: string, prefix: string) => {
    for (const { name } of Deno.readDirSync(path)) {
      const host = join(path, name);
      const info = Deno.lstatSync(host);
      const metadata: Metadata = {
        mode: info.mode! & 0o7777,
        uid: info.uid!,
        gid: info.gid!,
        mtime: Math.floor(info.mtime!.getTime() / 1000),
      };
      const known = inodes.get(`${info.dev} ${info.ino}`);
      let node: TreeNode;
      if (info.isDirectory) node = directoryNode(metadata);
      else if (known !== undefined) node = known;
      else if (info.isSymlink) node = symlinkNode(Deno.readLinkSync(host), metadata);
      else if (info.isFile) {
        const content = { kind: "file", path: host, offset: 0, size: info.size } as const;
        node = { type: "file", ...metadata, content };
      } else continue;
      inodes.set(`${info.dev} ${info.ino}`, node);
      tree.add(prefix + name, node);
      if (info.isDirectory) walk(host, `${prefix}${name}/`);
    }
  };
  walk(directory, "");
  return tree;
}

/** The same tree with all contents in one file of the host, as the builder has them. */
async function spool(tree: Tree, path: string): Promise<Tree> {
  const spooled = new Tree();
  const moved = new Map<TreeNode, TreeNode>();
  using file = await Deno.open(path, { write: true, create: true });
  let offset = 0;
  for (const [name, node] of tree.entries()) {
    let copy = moved.get(node) ?? node;
    if (copy === node && node.type === "file") {
      for (const chunk of readContent(node.content)) {
        writeAllSync(file, chunk);
      }
      const size = contentSize(node.content);
      copy = { ...node, content: { kind: "file", path, offset, size } };
      moved.set(node, copy);
      offset += size;
    } else if (node.type === "directory") {
      copy = { ...node, children: new Map() };
    }
    spooled.add(name, copy);
  }
  return spooled;
}

/**
 * Compares the time to write an image of `source` with that of mkfs.erofs, uncompressed both: from
 * the directory, as mkfs.erofs must, and from unpacked archives, as the builder does.
 *
 * @param source a directory of the host
 */
export async function benchErofs(source = "/usr/share"): Promise<void> {
  const directory = await Deno.makeTempDir();
  const ours = join(directory, "ours");
  const theirs = join(directory, "theirs");
  const mkfs = async () => {
    await Deno.remove(theirs).catch(() => {}); // it does not overwrite
    const { success } = await new Deno.Command("mkfs.erofs", {
      args: ["-x-1", "--quiet", theirs, source],
      env: { PATH: `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/sbin` },
      stdout: "null",
      stderr: "null",
    }).output();
    if (!success) throw new Error("mkfs.erofs failed");
  };
  try {
    let peer = true;
    try {
      await mkfs(); // brings the files into the page cache, too
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      peer = false;
    }
    const spooled = await spool(treeOf(source), join(directory, "spool"));
    const ways = [
      [`EROFS image of ${source}`, async () => void await writeErofs(treeOf(source), ours)],
      [`EROFS image of the same, unpacked`, async () => void await writeErofs(spooled, ours)],
    ] as const;
    for (const [what, write] of ways) {
      const times = await inTurns(REPETITIONS, write, peer ? mkfs : () => Promise.resolve());
      const mib = ({ blocks }: Deno.FileInfo) => `${Math.round(blocks! * 512 / 2 ** 20)} MiB`;
      report({
        what,
        unit: "ms",
        peer: "mkfs.erofs",
        ours: times.ours,
        theirs: peer ? times.theirs : [],
        remark: peer
          ? `ours takes ${mib(await Deno.stat(ours))} and is hashed, with contents at page ` +
            `boundaries for DAX; mkfs.erofs takes ${mib(await Deno.stat(theirs))}`
          : "mkfs.erofs is not installed",
      });
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

if (import.meta.main) await benchErofs();
