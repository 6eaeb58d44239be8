/**
 * An image's layers, fetched side by side and merged into one tree.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import type { Progress } from "../../base/progress.ts";
import { detectCompression, MAGIC_LENGTH } from "../archive/decompress.ts";
import { DecompressPool } from "../archive/decompress_pool.ts";
import { digestOf, openSource } from "../archive/source.ts";
import { limiter, together } from "../together.ts";
import { type Content, Tree } from "../tree.ts";
import type { Layer, OciImage } from "./image.ts";
import { applyLayer } from "./layer.ts";

/** What {@linkcode unpackImage} needs. */
export interface UnpackOptions {
  /** Who is told what happens. */
  readonly progress: Progress;
  /** Ends the work early. */
  readonly signal?: AbortSignal | undefined;
}

const PARALLEL = 4; // layers at once: registries limit connections, and each has a decompressor
/** Most bytes that one layer may have unpacked. */
const MAX_UNPACKED = 64 * 1024 ** 3;

/**
 * Fetches the layers and merges them.
 *
 * @param directory an existing directory for the uncompressed layers: the tree's contents are there,
 *   so it has to stay as long as the tree is used
 * @throws {CloudletError} `unavailable`, `untrusted`, `host` when the disk is full, `cancelled`
 */
export async function unpackImage(
  image: OciImage,
  directory: string,
  options: UnpackOptions,
): Promise<Tree> {
  const { progress } = options;
  const count = image.layers.length;
  const title = `Fetch ${count} layer${count === 1 ? "" : "s"} of ${image.name}`;
  const total = image.layers.reduce((sum, { size }) => sum + size, 0);
  checkSpace(directory, total, image.name);
  let archives: Content[];
  {
    using task = progress.task(title, { total, unit: "bytes" });
    using pool = new DecompressPool();
    const limited = limiter(PARALLEL);
    // A layer may come twice: it is fetched once.
    const distinct = [...new Map(image.layers.map((layer) => [layer.diffId, layer])).values()];
    const plain = await together(distinct, options.signal, async (layer, signal) => {
      const goal = join(directory, `${layer.diffId.replace("sha256:", "")}.tar`);
      const content = await limited(() => layer.fetch(signal, (bytes) => task.advance(bytes)));
      return await uncompressed(layer, content, goal, image.name, pool, signal);
    });
    const byId = new Map(distinct.map(({ diffId }, i) => [diffId, plain[i]!]));
    archives = image.layers.map(({ diffId }) => byId.get(diffId)!);
    task.done();
  }
  using task = progress.task(`Unpack ${count} layers`, { total: count, unit: "items" });
  const tree = new Tree();
  for (const [i, archive] of archives.entries()) {
    options.signal?.throwIfAborted();
    using source = openSource(archive, `layer ${i + 1} of ${image.name}`);
    applyLayer(source, tree);
    task.advance(1);
  }
  task.done();
  return tree;
}

/** The layer as a plain tar archive that is what the image's configuration says. */
async function uncompressed(
  layer: Layer,
  content: Content,
  goal: string,
  image: string,
  pool: DecompressPool,
  signal: AbortSignal,
): Promise<Content> {
  const name = `a layer of ${image}`;
  let plain = content;
  {
    using source = openSource(content, name);
    const head = source.read(0, Math.min(MAGIC_LENGTH, source.size));
    if (detectCompression(head) !== "none") {
      if (content.kind !== "file") throw new Error("a layer is not in memory");
      const { path, offset, size } = content;
      const request = { source: path, offset, size, name, limit: MAX_UNPACKED, durable: false };
      const unpacked = await pool.decompress(request, goal, signal);
      plain = { kind: "file", path: goal, offset: 0, size: unpacked };
    }
  }
  using source = openSource(plain, name);
  const found = `sha256:${digestOf(source)}`;
  if (found !== layer.diffId) {
    throw new CloudletError(
      `Cannot trust ${name}: uncompressed its digest is ${found}, expected is ${layer.diffId}`,
      { code: "untrusted", remedy: "report it to whoever made the image, or use another one" },
    );
  }
  return plain;
}

/** Says beforehand that the layers cannot fit, rather than after many minutes. */
function checkSpace(directory: string, bytes: number, image: string): void {
  const { bavail, bsize } = statfsSync(directory);
  const free = bavail * bsize;
  if (bytes <= free) return;
  const mib = (n: number) => `${Math.ceil(n / 2 ** 20)} MiB`;
  throw new CloudletError(
    `Cannot fetch ${image}: its layers have ${mib(bytes)}, the disk has ${mib(free)} left`,
    {
      code: "host",
      remedy: "free some disk space or point XDG_CACHE_HOME at a larger file system",
    },
  );
}
