/**
 * Paths of this checkout, wherever it is.
 *
 * @module
 */
import { fileURLToPath } from "node:url";

/** Absolute path of a file named relative to this folder. */
export function checkoutPath(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

/**
 * Deno's own cache, for children that get another XDG_CACHE_HOME: without it they would fetch every
 * npm package anew.
 */
export function denoDir(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`;
  return Deno.env.get("DENO_DIR") ?? `${cache}/deno`;
}
