/**
 * Mounting an image on the host, for tests that run as root on a kernel with EROFS.
 *
 * @module
 */

/** Reads an extended attribute of a file, not following symbolic links. */
export type ReadXattr = (path: string, name: string) => Uint8Array | undefined;

let told = false;

/**
 * Mounts an image, calls `work` with the directory, and unmounts it. Without the right to mount,
 * or without EROFS in the host's kernel, says so and does nothing: that is no tool one can install.
 */
export async function withMount(
  image: string,
  work: (directory: string, xattr: ReadXattr) => void,
): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    const mount = await command("mount", "-t", "erofs", "-o", "loop,ro", image, directory);
    if (mount !== undefined) {
      const filesystems = await Deno.readTextFile("/proc/filesystems");
      if (Deno.uid() === 0 && /\berofs\b/.test(filesystems) && !mount.includes("loop")) {
        throw new Error(`Cannot mount ${image}: ${mount}`);
      }
      if (!told) console.warn(`skipped the comparison with Linux's own EROFS: ${mount}`);
      told = true;
      return;
    }
    const libc = Deno.dlopen("libc.so.6", {
      lgetxattr: { parameters: ["buffer", "buffer", "buffer", "usize"], result: "isize" },
    });
    let unmounted: string | undefined;
    try {
      work(directory, (path, name) => {
        const value = new Uint8Array(65_536);
        const length = libc.symbols.lgetxattr(cString(path), cString(name), value, 65_536n);
        return length < 0n ? undefined : value.slice(0, Number(length));
      });
    } finally {
      libc.close();
      unmounted = await command("umount", directory);
    }
    if (unmounted !== undefined) throw new Error(`Cannot unmount ${directory}: ${unmounted}`);
  } finally {
    await Deno.remove(directory);
  }
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** What a command complained about, or undefined when it went well. */
async function command(name: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { success, stderr } = await new Deno.Command(name, { args }).output();
    return success ? undefined : new TextDecoder().decode(stderr).trim() || "it failed";
  } catch (error) {
    return String(error);
  }
}
