/**
 * What a power cut must not undo.
 *
 * A file system may write names down long before contents: after a crash a renamed file can be empty
 * or have holes. So what is found again by its name, and then trusted, is on the disk before it gets
 * that name. The name itself need not be: without it the thing is made again.
 *
 * @module
 */
import { join } from "node:path";

/** Files synced at once: file systems commit those that wait together in one go. */
const AT_ONCE = 16;

async function sync(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.sync();
}

/** Has the content of a file, or the names in a directory, on the disk: fsync(2). */
export async function syncPath(path: string): Promise<void> {
  try {
    await sync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
    // It is ours, but not even we may read it.
    const { mode } = await Deno.lstat(path);
    await Deno.chmod(path, 0o700);
    await sync(path);
    await Deno.chmod(path, mode! & 0o7777);
  }
}

/** Has a directory and everything below it on the disk. Links are not followed. */
export async function syncTree(directory: string): Promise<void> {
  const paths: string[] = [];
  const pending = [directory];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    paths.push(path);
    for await (const { name, isFile, isDirectory } of Deno.readDir(path)) {
      if (isDirectory) pending.push(join(path, name));
      else if (isFile) paths.push(join(path, name));
    }
  }
  const next = paths.values();
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (const path of next) await syncPath(path);
  }));
}
