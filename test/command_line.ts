/** The checkout's command line, with a cache of its own, for tests of any folder. */
import { join } from "node:path";
import { cacheDir } from "../base/dirs.ts";
import { checkoutPath, denoDir } from "./paths.ts";

/** A cache of its own for images; kernels and packages are those of the user. */
export async function ownCache(directory: string): Promise<string> {
  const cache = join(directory, "cache");
  await Deno.mkdir(join(cache, "cloudlet"), { recursive: true });
  await Deno.mkdir(join(cacheDir(), "debian"), { recursive: true }); // also of what is fetched first
  for await (const { name, isDirectory } of Deno.readDir(cacheDir())) {
    if (!isDirectory || ["images", "layers", "oci", "snapshots"].includes(name)) continue;
    await Deno.symlink(join(cacheDir(), name), join(cache, "cloudlet", name));
  }
  return cache;
}

/** Has a test use an empty cache, which ends with it. */
export async function withCache(test: (cache: string) => Promise<void>): Promise<void> {
  const cache = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  try {
    await test(cache);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

/** Runs a command to its end. */
export async function cloudlet(cache: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), ...args],
    env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir() },
    stdin: "null",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}
