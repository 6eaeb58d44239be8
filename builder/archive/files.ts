/**
 * Asking for a file of a cache.
 *
 * @module
 */

/**
 * Whether there is a regular file at `path`.
 *
 * @param size the length in bytes that it must have; any when absent
 */
export async function isFile(path: string, size?: number): Promise<boolean> {
  try {
    const info = await Deno.stat(path);
    return info.isFile && (size === undefined || info.size === size);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
