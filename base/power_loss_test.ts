/**
 * A disk that loses its power, for tests: an ext4 file system in a file. What a crash leaves is what
 * that file holds at the moment, before the kernel has written back the rest.
 *
 * @module
 */
import { join } from "node:path";

const SIZE = 64 * 1024 * 1024; // bytes

async function run(command: string, ...args: string[]): Promise<boolean> {
  try {
    const options = { args, stdout: "null", stderr: "null" } as const;
    return (await new Deno.Command(command, options).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Does `work` on such a disk, cuts the power and has `look` see what is left.
 *
 * @param work gets the directory where the disk is mounted
 * @param look gets it after the crash
 */
export async function acrossPowerLoss(
  work: (disk: string) => Promise<void>,
  look: (disk: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  const [before, after] = [join(directory, "before.img"), join(directory, "after.img")];
  const disk = join(directory, "disk");
  const mounted = async (image: string, use: () => Promise<void>) => {
    if (!(await run("mount", "-o", "loop", image, disk))) return false;
    try {
      await use();
    } finally {
      await run("umount", disk);
    }
    return true;
  };
  try {
    await Deno.mkdir(disk);
    await Deno.writeFile(before, new Uint8Array(0));
    await Deno.truncate(before, SIZE);
    const made = await run("mkfs.ext4", "-q", before) && await mounted(before, async () => {
      await work(disk);
      // Names are written down first, and contents half a minute later, unless they are asked for:
      // what makes the journal write its names is any other file that is synced.
      using other = await Deno.open(join(disk, "other"), { createNew: true, write: true });
      await other.write(new Uint8Array(1));
      await other.sync();
      await Deno.copyFile(before, after);
    });
    if (!made) return console.log("skipped: no ext4 file system can be made and mounted here");
    await mounted(after, () => look(disk));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
