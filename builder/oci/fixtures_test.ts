/** What the tests of this folder share: real registries filled by real tools, and a fake one. */
import { ARCHITECTURE } from "../architecture.ts";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { silentProgress } from "../../base/progress.ts";
import { oracle, run } from "../../test/oracle.ts";
import { makeTar, type TarEntry } from "../archive/fixtures_test.ts";
import type { Tree } from "../tree.ts";
import { RegistryCache } from "./cache.ts";
import { openImage, type OpenOptions } from "./open.ts";
import { parseReference } from "./reference.ts";
import { ImageBudget, type ImageLimits } from "../limits.ts";
import { unpackImage } from "./unpack.ts";

const symbols = {
  lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
  llistxattr: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
} as const;
let libc: Deno.DynamicLibrary<typeof symbols> | undefined;

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** An extended attribute of the host's file system; undefined when there is none. */
export function readXattr(path: string, name: string): Uint8Array | undefined {
  libc ??= Deno.dlopen("libc.so.6", symbols);
  const value = new Uint8Array(65536);
  const size = Number(libc.symbols.lgetxattr(cString(path), cString(name), value, 65536n));
  return size < 0 ? undefined : value.slice(0, size);
}

/** Names of a file's extended attributes, sorted. */
export function listXattrs(path: string): string[] {
  libc ??= Deno.dlopen("libc.so.6", symbols);
  const list = new Uint8Array(65536);
  const size = Number(libc.symbols.llistxattr(cString(path), list, 65536n));
  const text = new TextDecoder().decode(list.subarray(0, Math.max(0, size)));
  return text.split("\0").filter((name) => name !== "").sort();
}

/** Whether the tools are there that fill a registry; they have to be root to keep owners. */
export async function hasTools(): Promise<boolean> {
  if (Deno.uid() !== 0) return false;
  for (const name of ["umoci", "skopeo", "docker-registry"]) {
    if (!(await oracle(name))) return false;
  }
  return true;
}

/** Each step is one layer, made by a shell script in the root of the image. */
export async function makeLayout(
  directory: string,
  layout: string,
  steps: readonly string[],
): Promise<void> {
  const umoci = (...args: string[]) => run("umoci", args, { cwd: directory });
  await umoci("init", "--layout", layout);
  await umoci("new", "--image", `${layout}:t`);
  for (const step of steps) {
    await umoci("unpack", "--image", `${layout}:t`, "bundle");
    const script = `set -e; ${step}\nfind . -exec touch -h -d @1600000000 {} +`;
    await run("sh", ["-c", script], { cwd: join(directory, "bundle/rootfs") });
    await umoci("repack", "--image", `${layout}:t`, "bundle");
    await Deno.remove(join(directory, "bundle"), { recursive: true });
  }
}

/** The tree of an image, whose files stay in `directory`. */
export async function pull(
  reference: string,
  directory: string,
  { limits, ...options }: OpenOptions & { readonly limits?: ImageLimits } = {},
): Promise<Tree> {
  const cache = new RegistryCache(join(directory, "oci"));
  const fetch = { attempts: 3, backoff: 1 };
  using open = await openImage(parseReference(reference), { cache, fetch, ...options });
  const layers = await Deno.makeTempDir({ dir: directory });
  using budget = new ImageBudget(reference, limits, options.signal);
  return await unpackImage(open.image, layers, { progress: silentProgress, budget });
}

/** A docker-registry process. */
export interface RealRegistry extends AsyncDisposable {
  /** Host and port. */
  readonly host: string;
}

/**
 * Starts docker-registry on the loopback network.
 *
 * @param settings more lines of its configuration, such as `auth:`
 * @param tls names of certificate and key
 */
export async function startRegistry(
  directory: string,
  settings = "",
  tls?: { readonly certificate: string; readonly key: string },
): Promise<RealRegistry> {
  const port = freePort();
  const host = `127.0.0.1:${port}`;
  const data = await Deno.makeTempDir({ dir: directory });
  const config = join(data, "config.yml");
  const tlsLines = tls === undefined
    ? ""
    : `  tls:\n    certificate: ${tls.certificate}\n    key: ${tls.key}\n`;
  await Deno.writeTextFile(
    config,
    `version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n` +
      `storage:\n  filesystem:\n    rootdirectory: ${data}/store\n` +
      `http:\n  addr: ${host}\n${tlsLines}${settings}`,
  );
  const child = new Deno.Command("docker-registry", {
    args: ["serve", config],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let ended = false;
  void child.status.then(() => ended = true);
  for (;;) {
    assert.ok(!ended, "docker-registry ended");
    try {
      using _connection = await Deno.connect({ hostname: "127.0.0.1", port });
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return {
    host,
    async [Symbol.asyncDispose]() {
      if (!ended) child.kill("SIGKILL");
      await child.status;
    },
  };
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/** `sha256:HEX` of some bytes. */
export function digest(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** An answer of the fake registry in place of the usual one; undefined leaves it. */
export type Fault = (request: Request, path: string) => Response | undefined;

/** An image that the fake registry has as `x:t`. */
export interface FakeImage {
  readonly blobs: Map<string, Uint8Array<ArrayBuffer>>;
  /** What the tag leads to. */
  root: { bytes: Uint8Array<ArrayBuffer>; mediaType: string };
  readonly layers: string[];
}

const OCI = "application/vnd.oci.image";

/** Makes an image of tar archives. */
export function fakeImage(
  layers: readonly (readonly TarEntry[] | Uint8Array<ArrayBuffer>)[],
  change: {
    readonly manifest?: (manifest: Record<string, unknown>) => unknown;
    readonly config?: (config: Record<string, unknown>) => unknown;
    readonly layerType?: string;
  } = {},
): FakeImage {
  const blobs = new Map<string, Uint8Array<ArrayBuffer>>();
  const add = (bytes: Uint8Array<ArrayBuffer>, mediaType: string) => {
    blobs.set(digest(bytes), bytes);
    return { mediaType, digest: digest(bytes), size: bytes.length };
  };
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const archives = layers.map((layer) => layer instanceof Uint8Array ? layer : makeTar(layer));
  const descriptors = archives.map((tar) =>
    add(new Uint8Array(gzipSync(tar)), change.layerType ?? `${OCI}.layer.v1.tar+gzip`)
  );
  const config = {
    architecture: ARCHITECTURE,
    os: "linux",
    rootfs: { type: "layers", diff_ids: archives.map(digest) },
  };
  const manifest = {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: add(json(change.config?.(config) ?? config), `${OCI}.config.v1+json`),
    layers: descriptors,
  };
  const bytes = json(change.manifest?.(manifest) ?? manifest);
  blobs.set(digest(bytes), bytes);
  return {
    blobs,
    root: { bytes, mediaType: `${OCI}.manifest.v1+json` },
    layers: descriptors.map(({ digest }) => digest),
  };
}

/** Serves an image by the distribution protocol, but for the faults. */
export function serveImage(image: FakeImage, fault: Fault = () => undefined) {
  const asked: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    asked.push(pathname);
    const answer = fault(request, pathname);
    if (answer !== undefined) return answer;
    if (pathname === "/v2/") return new Response("{}");
    const [, kind, reference] = /^\/v2\/x\/(manifests|blobs)\/([^/]+)$/.exec(pathname) ?? [];
    if (kind === "manifests" && reference === "t") {
      return new Response(image.root.bytes, { headers: { "content-type": image.root.mediaType } });
    }
    const bytes = image.blobs.get(reference ?? "");
    if (bytes === undefined) return new Response(null, { status: 404 });
    const range = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "");
    if (range === null) return new Response(bytes);
    const from = Number(range[1]);
    return new Response(bytes.subarray(from), {
      status: 206,
      headers: { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` },
    });
  });
  return {
    name: `127.0.0.1:${server.addr.port}/x:t`,
    asked,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Paths of all files below a directory. */
export function filesIn(directory: string): string[] {
  const found: string[] = [];
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    const path = join(directory, name);
    if (isDirectory) found.push(...filesIn(path));
    else found.push(path);
  }
  return found.sort();
}
