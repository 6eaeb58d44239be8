/**
 * The images as a whole, against tools that others wrote: erofs-utils reads what we wrote, dpkg
 * and GNU tar unpack the same packages.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { imageNames } from "../builder/image/declarations.ts";
import { Builder } from "../builder/artifacts.ts";
import { LineProgress } from "../cli/progress.ts";
import { run } from "./oracle.ts";
import { checkoutPath, denoDir } from "./paths.ts";

/** All images take some minutes; the ones that tests need anyway are the default. */
const NAMES = (Deno.env.get("CLOUDLET_TEST_IMAGES") ?? "tiny,python").split(",");
const progress = new LineProgress();

/** Paths that are ours instead of a package's: see builder/base_tree.ts and builder/image. */
const OURS = new RegExp(
  "^(etc/|usr/lib/cloudlet|usr/s?bin/(deno|sh|[an]?awk|cc|c\\+\\+|pager|node|js|rmt|which)$|" +
    "usr/bin/(lz|unlz)[a-z]+$|usr/local(/|$)|root/\\.|media$|var/|run/)",
);
const REMOVED = /^usr\/share\/(doc|man|locale|info)(\/|$)/;

interface Entry {
  readonly kind: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly what: string;
}

function entryOf(path: string): Entry {
  const stat = Deno.lstatSync(path);
  const kind = stat.isSymlink ? "link" : stat.isDirectory ? "directory" : "file";
  const what = stat.isSymlink
    ? Deno.readLinkSync(path)
    : stat.isFile
    ? createHash("sha256").update(Deno.readFileSync(path)).digest("hex")
    : "";
  // fsck.erofs changes owners last, which takes the bits of set-user-ID and set-group-ID away:
  // system_mirror_test compares these.
  const mode = stat.isSymlink ? 0 : stat.mode! & 0o1777;
  return { kind, mode, uid: stat.uid!, gid: stat.gid!, what };
}

function readTree(root: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const walk = (directory: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(join(root, directory))) {
      const path = join(directory, name);
      if (!OURS.test(path) && !REMOVED.test(path)) entries.set(path, entryOf(join(root, path)));
      if (isDirectory) walk(path);
    }
  };
  walk("");
  return entries;
}

/** Unpacks .deb files one over the other into a merged-/usr directory with dpkg-deb and tar. */
async function unpackWithDpkg(debs: Iterable<string>, directory: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(join(directory, "usr", name), { recursive: true });
    await Deno.symlink(`usr/${name}`, join(directory, name));
  }
  for (const deb of debs) {
    const script = 'dpkg-deb --fsys-tarfile "$1" | tar -x -p --keep-directory-symlink -C "$2"';
    await run("sh", ["-c", script, "sh", deb, directory]);
  }
}

for (const name of NAMES) {
  assert.ok(imageNames().includes(name), `CLOUDLET_TEST_IMAGES names no image: ${name}`);
  Deno.test({
    name: `the ${name} image holds what dpkg-deb unpacks from the same packages`,
    ignore: Deno.uid() !== 0, // owners can only be compared by root
    async fn() {
      const builder = new Builder({ progress });
      const image = await builder.image(name);
      const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
      try {
        const [extracted, reference] = [join(directory, "ours"), join(directory, "dpkg")];
        await run("fsck.erofs", [`--extract=${extracted}`, image.path]);
        await unpackWithDpkg(await builder.packageFiles(image), reference);
        const [ours, theirs] = [readTree(extracted), readTree(reference)];
        let compared = 0;
        for (const [path, entry] of theirs) {
          if (entry.kind === "directory" && entry.mode === 0o755 && !ours.has(path)) {
            assert.fail(`the image lacks the directory ${path}`);
          }
          assert.deepEqual(ours.get(path), entry, path);
          compared++;
        }
        const packages = new Set(theirs.keys());
        const extra = [...ours.keys()].filter((path) => !packages.has(path));
        const base = /^(dev|home|mnt|opt|proc|root|run|srv|sys|tmp|var|etc)$/;
        const applet = (path: string) => ours.get(path)!.what === "/usr/bin/busybox";
        assert.deepEqual(extra.filter((path) => !base.test(path) && !applet(path)), []);
        assert.ok(compared > 0);
        console.log(`${name}: ${compared} paths equal`);
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    },
  });
}

Deno.test("an image that is built twice from the same packages has the same bytes", async () => {
  const builder = new Builder({ progress });
  const first = await builder.image("tiny");
  const cache = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  try {
    // another cache, so that nothing is reused; the packages come from the mirror again
    const child = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), "image", "build", "tiny"],
      env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir() },
      stderr: "inherit",
    }).output();
    assert.equal(child.code, 0);
    const second = new TextDecoder().decode(child.stdout).trim();
    assert.notEqual(second, first.path);
    assert.deepEqual(await Deno.readFile(second), await Deno.readFile(first.path));
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});
