/**
 * Makes the one file that the agent is in the microVM.
 *
 * Only what runs in the guest is in it, so its digest names the agent in the keys of images: an edit
 * of anything else changes no image. No version number of cloudlet is in it either, since a release
 * would rebuild all images; the agent's version is its digest.
 *
 * @module
 */
import * as esbuild from "esbuild";
import { CloudletError, messageOf } from "../base/errors.ts";
import { sha256 } from "../base/store.ts";

/** The agent as one ES module. */
export interface AgentBundle {
  /** The module's text, in UTF-8. */
  readonly code: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the code, in hex. */
  readonly sha256: string;
  /** What it was made of: SHA-256 in hex of each module, by URL. */
  readonly sources: ReadonlyMap<string, string>;
  /** The bare specifiers of its imports, and what each was resolved to. */
  readonly resolved: ReadonlyMap<string, string>;
}

const NAMESPACE = "url";
/** In agent/main.ts, where the bundle's digest goes. */
const VERSION_MARK = "@agent-version@";
const VERSION_DIGITS = 16;

/** Finds modules as this one's own imports are found, so that no node_modules is needed. */
function denoResolution(
  sources: Map<string, string>,
  resolved: Map<string, string>,
): esbuild.Plugin {
  return {
    name: "deno-resolution",
    setup(build) {
      build.onResolve({ filter: /.*/ }, ({ path, importer, kind }) => {
        if (path.startsWith("node:")) return { path, external: true };
        if (kind === "entry-point" || path.startsWith("https:")) {
          return { path, namespace: NAMESPACE };
        }
        const relative = path.startsWith("./") || path.startsWith("../");
        const url = relative ? new URL(path, importer).href : import.meta.resolve(path);
        if (!relative) resolved.set(path, url);
        // Only what says so may be left out where nothing of it is used; npm's packages here do.
        return { path: url, namespace: NAMESPACE, sideEffects: false };
      });
      build.onLoad({ filter: /.*/, namespace: NAMESPACE }, async ({ path, with: attributes }) => {
        const url = new URL(path);
        const contents = url.protocol === "file:"
          ? await Deno.readTextFile(url)
          : await (await fetch(url)).text();
        sources.set(path, sha256(contents));
        if (attributes["type"] === "text") return { contents, loader: "text" };
        return { contents, loader: url.pathname.endsWith(".ts") ? "ts" : "js" };
      });
    },
  };
}

/** Builds under way: they share esbuild's program, which ends with the last of them. */
let builds = 0;

/**
 * Bundles the agent. The same sources give the same bytes, wherever they are.
 *
 * @param entry the agent's main module
 * @throws {CloudletError} `internal` when the sources do not fit together, `host` when esbuild's
 *   program cannot run
 */
export async function bundleAgent(
  entry: URL = new URL("../agent/main.ts", import.meta.url),
): Promise<AgentBundle> {
  const sources = new Map<string, string>();
  const resolved = new Map<string, string>();
  builds++;
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [entry.href],
      plugins: [denoResolution(sources, resolved)],
      bundle: true,
      write: false,
      format: "esm",
      platform: "neutral",
      target: "esnext",
      minify: true,
      legalComments: "none",
      charset: "utf8",
      logLevel: "silent",
    });
    const { text } = outputFiles[0]!;
    const version = sha256(text).slice(0, VERSION_DIGITS);
    const code = new TextEncoder().encode(text.replace(VERSION_MARK, version));
    return { code, sha256: sha256(code), sources, resolved };
  } catch (cause) {
    throw new CloudletError(`Cannot bundle the agent: ${messageOf(cause)}`, {
      code: cause instanceof Error && "errors" in cause ? "internal" : "host",
      cause,
    });
  } finally {
    builds--;
    if (builds === 0) await esbuild.stop();
  }
}
