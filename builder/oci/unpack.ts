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
import type { ImageBudget } from "../limits.ts";
import { limitConcurrency, mapConcurrently } from "../concurrency.ts";
import { type Content, Tree } from "../tree.ts";
import type { Layer, OciImage } from "./image.ts";
import { applyLayer } from "./layer.ts";

/** What {@linkcode unpackImage} needs. */
export interface UnpackOptions {
  /** Gets told how far it is. */
  readonly progress: Progress;
  /** What the image may take; its signal ends the work early. */
  readonly budget: ImageBudget;
}

const PARALLEL = 4; // layers at once: registries limit connections, and each has a decompressor

/**
 * Fetches the layers and merges them.
 *
 * @param directory an existing directory for the uncompressed layers: the tree's contents are there,
 *   so it has to stay as long as the tree is used
 * @throws {CloudletError} `unavailable`, `untrusted`, `host` when the disk is full, `cancelled`,
 *   `invalid-input` beyond the limits
 */
export async function unpackImage(
  image: OciImage,
  directory: string,
  options: UnpackOptions,
): Promise<Tree> {
  try {
    return mergeLayers(image, await fetchLayers(image, directory, options), options);
  } catch (error) {
    throw options.budget.explain(error);
  }
}

/** The layers as uncompressed archives, in the image's order. */
async function fetchLayers(
  image: OciImage,
  directory: string,
  { progress, budget }: UnpackOptions,
): Promise<Content[]> {
  const title = `Fetch ${layersOf(image)}`;
  const total = image.layers.reduce((sum, { size }) => sum + size, 0);
  checkSpace(directory, total, image.name);
  using task = progress.task(title, { total, unit: "bytes" });
  using pool = new DecompressPool();
  const limited = limitConcurrency(PARALLEL);
  // A layer may come twice: it is fetched once.
  const distinct = [...new Map(image.layers.map((layer) => [layer.diffId, layer])).values()];
  const plain = await mapConcurrently(distinct, budget.signal, async (layer, signal) => {
    const goal = join(directory, `${layer.diffId.replace("sha256:", "")}.tar`);
    const content = await limited(() => layer.fetch(signal, (bytes) => task.advance(bytes)));
    return await uncompressed(layer, content, goal, { image: image.name, pool, signal, budget });
  });
  const byId = new Map(distinct.map(({ diffId }, i) => [diffId, plain[i]!]));
  task.done();
  return image.layers.map(({ diffId }) => byId.get(diffId)!);
}

function mergeLayers(
  image: OciImage,
  archives: readonly Content[],
  { progress, budget }: UnpackOptions,
): Tree {
  using task = progress.task(`Unpack ${layersOf(image)}`, {
    total: archives.length,
    unit: "items",
  });
  const tree = new Tree();
  for (const [i, archive] of archives.entries()) {
    budget.signal.throwIfAborted();
    using source = openSource(archive, `layer ${i + 1} of ${image.name}`);
    applyLayer(source, tree, budget);
    task.advance(1);
  }
  task.done();
  return tree;
}

function layersOf({ layers, name }: OciImage): string {
  return `${layers.length} layer${layers.length === 1 ? "" : "s"} of ${name}`;
}

/** The layer as a plain tar archive that is what the image's configuration says. */
async function uncompressed(
  layer: Layer,
  content: Content,
  goal: string,
  { image, pool, signal, budget }: {
    readonly image: string;
    readonly pool: DecompressPool;
    readonly signal: AbortSignal;
    readonly budget: ImageBudget;
  },
): Promise<Content> {
  const name = `a layer of ${image}`;
  let plain = content;
  {
    using source = openSource(content, name);
    const head = source.read(0, Math.min(MAGIC_LENGTH, source.size));
    if (detectCompression(head) === "none") {
      budget.addBytes(source.size);
    } else {
      if (content.kind !== "file") throw new Error("a layer is not in memory");
      const { path, offset, size } = content;
      const request = { source: path, offset, size, name, count: budget.bytes, durable: false };
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
