/**
 * What cloudlet adds to a root file system: the agent, the Deno that runs it, and process 1.
 *
 * An image of Debian packages has the libraries that Deno needs. Any other may have none, or another
 * C library; there Deno is started by a dynamic linker of its own with libraries of its own, and what
 * the agent starts knows nothing of either.
 *
 * ```text
 * /usr/lib/cloudlet/agent.js, deno, init     in every image with an agent
 *                   busybox, lib/            in images that are not of Debian packages
 * ```
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import { lazyText } from "../../base/lazy_import.ts";
import { Buffer } from "node:buffer";
import { newSystemTree } from "../base_tree.ts";
import type { Debian, DebianPackage } from "../debian/debian.ts";
import { contentBytes } from "../content.ts";
import { alignElf } from "../elf_align.ts";
import { directoryNode, type FileNode, fileNode, type Tree } from "../tree.ts";
import { AGENT_SHA256 } from "./agent/digest.ts";
import { HOME, initScript } from "./init.ts";
import { fileDigest } from "./inputs.ts";

/** What comes from this host and this checkout. */
export interface Payload {
  readonly agent: { readonly code: Uint8Array; readonly sha256: string };
  readonly deno: { readonly path: string; readonly sha256: string };
}

/** What the Deno binary is linked to (`ldd`), beyond what libc6 itself brings. */
export const DENO_NEEDS: readonly string[] = ["libc6", "libgcc-s1"];
/** The package with the shell of process 1. */
export const BUSYBOX = "busybox-static";

const LIBRARIES = `${HOME}/lib`;
const MULTIARCH = Deno.build.arch === "x86_64" ? "x86_64-linux-gnu" : "aarch64-linux-gnu";
const LINKER = Deno.build.arch === "x86_64" ? "ld-linux-x86-64.so.2" : "ld-linux-aarch64.so.1";

/** The agent's bundle, which is loaded only now, and the digest of this host's Deno. */
export async function loadPayload(): Promise<Payload> {
  const path = Deno.execPath();
  const code = new TextEncoder().encode(await lazyText("./agent/agent.js", import.meta.url));
  return { agent: { code, sha256: AGENT_SHA256 }, deno: { path, sha256: fileDigest(path) } };
}

/** Adds the agent to a tree of Debian packages; gives the node of the Deno binary. */
export function addPayload(tree: Tree, { agent, deno }: Payload, init: string): FileNode {
  const binary = fileNode(alignElf(Deno.readFileSync(deno.path)), { mode: 0o755 });
  tree.add(`${HOME}/deno`, binary);
  tree.add(`${HOME}/agent.js`, fileNode(agent.code));
  tree.add(`${HOME}/init`, fileNode(init, { mode: 0o755 }));
  return binary;
}

/**
 * Makes way for cloudlet's own directory: what is above it is a directory, or leads to one, though the
 * image may have a file there or links in a circle.
 */
export function makeWay(tree: Tree): void {
  const names = HOME.split("/");
  for (let i = 1; i < names.length; i++) {
    const path = names.slice(0, i).join("/");
    try {
      tree.add(`${path}/${names[i]}`, directoryNode());
    } catch (error) {
      if (!(error instanceof CloudletError)) throw error;
      tree.remove(path);
    }
  }
  tree.remove(HOME);
}

/** Process 1 of an image with a dynamic linker and libraries of our own. */
export function ownInitScript(path: string | undefined): string {
  return initScript({
    busybox: `/${HOME}/busybox`,
    deno: [
      `/${LIBRARIES}/${LINKER}`,
      "--inhibit-cache", // the image's is of other libraries
      "--library-path",
      `/${LIBRARIES}`,
      `/${HOME}/deno`,
    ],
    ...(path !== undefined && { path }),
    hosts: true,
  });
}

/**
 * ld.so(8): libraries that /etc/ld.so.preload names are loaded into every program. Those of the image
 * are for its own C library; no option of the linker leaves them out.
 *
 * @throws {CloudletError} `untrusted` for a linker that does not name the file exactly once
 */
export function withoutPreload(linker: Uint8Array): Uint8Array<ArrayBuffer> {
  const encode = (text: string) => new TextEncoder().encode(`${text}\0`);
  const [name, nothing] = [encode("/etc/ld.so.preload"), encode("/dev/null/cloudlet")];
  const bytes = new Uint8Array(linker);
  const found = Buffer.from(bytes.buffer);
  const at = found.indexOf(name);
  if (at < 0 || found.indexOf(name, at + 1) >= 0) {
    throw new CloudletError("Cannot build the image: libc6's dynamic linker is not as expected", {
      code: "untrusted",
    });
  }
  bytes.set(nothing, at);
  return bytes;
}

/** The packages whose files {@linkcode addOwnRuntime} takes. */
export function runtimePackages(debian: Debian): DebianPackage[] {
  return debian.resolve([...DENO_NEEDS, BUSYBOX]);
}

/**
 * Adds Deno's libraries, their linker and a static busybox, all below our own prefix.
 *
 * @throws {CloudletError} `untrusted` when the packages do not hold what they should
 */
export async function addOwnRuntime(
  tree: Tree,
  debian: Debian,
  packages: readonly DebianPackage[],
): Promise<void> {
  const system = newSystemTree();
  await debian.unpack(packages, system);
  const missing = (what: string) =>
    new CloudletError(`Cannot build the image: Debian's packages hold no ${what}`, {
      code: "untrusted",
    });
  const libraries = system.lookup(`usr/lib/${MULTIARCH}`);
  if (libraries?.type !== "directory") throw missing(`/usr/lib/${MULTIARCH}`);
  tree.add(LIBRARIES, directoryNode());
  for (const name of libraries.children.keys()) {
    if (!/\.so\.\d+$/.test(name)) continue;
    const path = `usr/lib/${MULTIARCH}/${name}`;
    let node = system.lookup(path);
    for (let links = 0; node?.type === "symlink" && links < 4; links++) {
      const { target } = node;
      node = system.lookup(target.startsWith("/") ? target : `usr/lib/${MULTIARCH}/${target}`);
    }
    if (node?.type === "file") tree.add(`${LIBRARIES}/${name}`, node);
  }
  const linker = system.lookup(`usr/lib/${MULTIARCH}/${LINKER}`) ??
    system.lookup(`lib64/${LINKER}`);
  if (linker?.type !== "file") throw missing(LINKER);
  tree.add(`${LIBRARIES}/${LINKER}`, {
    ...linker,
    content: { kind: "bytes", bytes: withoutPreload(contentBytes(linker.content)) },
  });
  const busybox = system.lookup("usr/bin/busybox");
  if (busybox?.type !== "file") throw missing("/bin/busybox");
  tree.add(`${HOME}/busybox`, busybox);
}
