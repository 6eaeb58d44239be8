/**
 * Makes the one file that the agent is in the microVM.
 *
 * @module
 */
import { createHash } from "node:crypto";
import * as esbuild from "esbuild";
import { CloudletError, messageOf } from "../base/errors.ts";

/** The agent as one ES module. */
export interface AgentBundle {
  /** The module's text, in UTF-8. */
  readonly code: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the code, in hex. */
  readonly sha256: string;
}

const NAMESPACE = "url";

/** Finds modules as this one's own imports are found, so that no node_modules is needed. */
const denoResolution: esbuild.Plugin = {
  name: "deno-resolution",
  setup(build) {
    build.onResolve({ filter: /.*/ }, ({ path, importer, kind }) => {
      if (path.startsWith("node:")) return { path, external: true };
      if (kind === "entry-point" || path.startsWith("https:")) {
        return { path, namespace: NAMESPACE };
      }
      const relative = path.startsWith("./") || path.startsWith("../");
      const url = relative ? new URL(path, importer).href : import.meta.resolve(path);
      // Only what says so may be left out where nothing of it is used; npm's packages here do.
      return { path: url, namespace: NAMESPACE, sideEffects: false };
    });
    build.onLoad({ filter: /.*/, namespace: NAMESPACE }, async ({ path, with: attributes }) => {
      const url = new URL(path);
      const contents = url.protocol === "file:"
        ? await Deno.readTextFile(url)
        : await (await fetch(url)).text();
      if (attributes["type"] === "text") return { contents, loader: "text" };
      return { contents, loader: url.pathname.endsWith(".ts") ? "ts" : "js" };
    });
  },
};

/** Ending esbuild's program leaves the builds of other callers without an end: they share one. */
let underWay: Promise<AgentBundle> | undefined;

/**
 * Bundles the agent. The same sources give the same bytes.
 *
 * @throws {CloudletError} `internal` when the sources do not fit together, `host` when esbuild's
 *   program cannot run
 */
export async function bundleAgent(): Promise<AgentBundle> {
  return await (underWay ??= bundle().finally(() => underWay = undefined));
}

async function bundle(): Promise<AgentBundle> {
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [new URL("./main.ts", import.meta.url).href],
      plugins: [denoResolution],
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
    // SAFETY of types only: esbuild's buffers are not shared.
    const code = outputFiles[0]!.contents as Uint8Array<ArrayBuffer>;
    return { code, sha256: createHash("sha256").update(code).digest("hex") };
  } catch (cause) {
    throw new CloudletError(`Cannot bundle the agent: ${messageOf(cause)}`, {
      code: cause instanceof Error && "errors" in cause ? "internal" : "host",
      cause,
    });
  } finally {
    await esbuild.stop();
  }
}
