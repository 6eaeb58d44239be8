/**
 * The parts of an image that come from this host and this checkout instead of Debian: the Deno
 * binary and the agent. Each has a state, a cheap name that changes when its content does, so that
 * a run need not hash or bundle them to find that nothing changed.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { KeyPart } from "../../base/store.ts";
import { digestOf, openSource } from "../archive/source.ts";

const AGENT_FOLDERS = ["../../agent/", "../../proto/gen/"];

async function* sources(directory: URL): AsyncGenerator<URL> {
  const entries = await Array.fromAsync(Deno.readDir(directory));
  for (const { name, isDirectory } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (isDirectory) yield* sources(new URL(`${name}/`, directory));
    else if (name.endsWith(".ts") && !name.endsWith("_test.ts")) yield new URL(name, directory);
  }
}

/** State of the agent's sources: a hash of their content; their address when they came by network. */
export async function agentState(): Promise<string> {
  // a published package is never changed, so its address, which has the version in it, says it all
  if (!import.meta.url.startsWith("file:")) return import.meta.url;
  const hash = createHash("sha256");
  for (const folder of AGENT_FOLDERS) {
    for await (const url of sources(new URL(folder, import.meta.url))) {
      hash.update(url.pathname.slice(-40)).update(await Deno.readFile(url));
    }
  }
  return hash.digest("hex");
}

/** State of the Deno binary that is put into images: path, size and time of change. */
export async function denoState(): Promise<KeyPart> {
  const path = Deno.execPath();
  const { size, mtime } = await Deno.stat(path);
  return { path, size, mtime: mtime?.getTime() ?? 0, version: Deno.version.deno };
}

/** SHA-256 of a file, in hex. */
export function fileDigest(path: string): string {
  using source = openSource(path);
  return digestOf(source);
}
