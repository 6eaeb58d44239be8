/**
 * `cloudlet image pull` beside skopeo and umoci: the same Debian system from the same registry on
 * this machine, with empty caches. They end with an unpacked directory; cloudlet makes an image that
 * a microVM mounts, with Deno and the agent inside.
 *
 * @module
 */
import { join } from "node:path";
import { cacheDir } from "../base/dirs.ts";
import { startRegistry } from "../builder/oci/fixtures_test.ts";
import { run } from "../test/oracle.ts";
import { checkoutPath, denoDir } from "../test/paths.ts";
import { inTurns, report } from "./report.ts";

/** Prints the comparison. */
export async function benchOci(repetitions = 5): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    const cwd = directory;
    await run("mmdebstrap", ["--variant=extract", "--include=python3", "bookworm", "root.tar"], {
      cwd,
    });
    await run("umoci", ["init", "--layout", "made"], { cwd });
    await run("umoci", ["new", "--image", "made:t"], { cwd });
    await run("umoci", ["raw", "add-layer", "--image", "made:t", "root.tar"], { cwd });
    await using registry = await startRegistry(directory);
    const name = `${registry.host}/python:1`;
    const plain = ["--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    await run("skopeo", ["copy", ...plain, "oci:made:t", `docker://${name}`], { cwd });
    const cache = join(directory, "cache");
    const times = await inTurns(repetitions, async () => {
      await Deno.mkdir(join(cache, "cloudlet"), { recursive: true });
      // The agent's own libraries are not what is measured.
      await Deno.symlink(join(cacheDir(), "debian"), join(cache, "cloudlet/debian"));
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), "image", "pull", name],
        env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir() },
      }).output();
      if (!success) throw new Error(new TextDecoder().decode(stderr));
      await Deno.remove(cache, { recursive: true });
    }, async () => {
      await run("skopeo", ["copy", ...plain, `docker://${name}`, "oci:pulled:t"], { cwd });
      await run("umoci", ["unpack", "--image", "pulled:t", "bundle"], { cwd });
      for (const path of ["pulled", "bundle"]) {
        await Deno.remove(join(directory, path), { recursive: true });
      }
    });
    const { size } = await Deno.stat(join(directory, "root.tar"));
    report({
      what: `pull an image of ${Math.round(size / 2 ** 20)} MiB, empty caches`,
      unit: "ms",
      peer: "skopeo copy and umoci unpack",
      ...times,
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
