/**
 * A root image made from an OCI image, as the command line makes it: erofs-utils reads what umoci
 * unpacks, and nothing else but what is below /usr/lib/cloudlet.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../builder/archive/fixtures_test.ts";
import { hasTools, makeLayout, startRegistry } from "../builder/oci/fixtures_test.ts";
import { oracle, run } from "./oracle.ts";
import { checkoutPath, denoDir } from "./paths.ts";
import { ownCache } from "./command_line.ts";

/**
 * Every path below a directory with what it is, but for the agent's files. fsck.erofs makes copies of
 * hard links and drops set-user-id; builder/erofs is tested with Linux's own reader for these.
 */
function listing(root: string, prefix = ""): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { name } of Deno.readDirSync(join(root, prefix))) {
    const path = prefix + name;
    if (path === "usr/lib/cloudlet") continue;
    const info = Deno.lstatSync(join(root, path));
    const { uid, gid, mode, rdev } = info;
    const what = info.isFile
      ? Deno.readTextFileSync(join(root, path))
      : info.isSymlink
      ? Deno.readLinkSync(join(root, path))
      : String(rdev);
    const kind = ((mode ?? 0) & 0o171777).toString(8);
    found[path] = `${kind} ${uid} ${gid} ${info.isDirectory ? "" : what}`;
    if (info.isDirectory) Object.assign(found, listing(root, `${path}/`));
  }
  return found;
}

const FIRST = `mkdir -p etc usr/bin opt/a tmp; ln -s usr/bin bin; echo one >opt/a/one
  ln opt/a/one opt/two; ln -s ../nowhere etc/link; mknod opt/null c 1 3; mkfifo opt/pipe
  chown 1000:1001 opt/a; chmod 4755 opt/two; chmod 1777 tmp; echo gone >etc/gone`;
const SECOND = `rm etc/gone; mkdir -p usr/lib; echo own >usr/lib/file; chown -h 5:6 etc/link`;

Deno.test("the root image of an OCI image is that image, and the agent", async (t) => {
  if (!(await hasTools()) || !(await oracle("fsck.erofs"))) return;
  using directory = testDirectory();
  const { path } = directory;
  const cache = await ownCache(path);
  const cloudlet = async (...args: string[]) => {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", checkoutPath("../mod.ts"), "image", ...args],
      env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir() },
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout).trim();
  };
  await using registry = await startRegistry(path);
  const name = `${registry.host}/team/x:t`;
  const push = (layout: string) =>
    run("skopeo", [
      ...["copy", "--insecure-policy", "--dest-tls-verify=false"],
      ...[`oci:${layout}:t`, `docker://${name}`],
    ], { cwd: path });
  const check = async (layout: string, image: string) => {
    await run("umoci", ["unpack", "--image", `${layout}:t`, `${layout}-bundle`], { cwd: path });
    const extracted = join(path, `${layout}-extracted`);
    await run("fsck.erofs", [`--extract=${extracted}`, "--preserve", image]);
    const expected: Record<string, string> = listing(join(path, `${layout}-bundle/rootfs`));
    // The directories on the way to the agent are made where the image has none.
    for (const name of ["usr", "usr/lib"]) expected[name] ??= "40755 0 0 ";
    assert.deepEqual(listing(extracted), expected);
    const own = [...Deno.readDirSync(join(extracted, "usr/lib/cloudlet"))].map(({ name }) => name);
    assert.deepEqual(own.sort(), ["agent.js", "busybox", "deno", "init", "lib"]);
  };

  await makeLayout(path, "first", [FIRST]);
  await push("first");
  const first = await cloudlet("pull", name);
  await t.step("what it holds", () => check("first", first));
  await t.step("pulling it again finds it", async () => {
    assert.equal(await cloudlet("pull", name), first);
  });
  await t.step("a tag that means another image now is followed", async () => {
    await makeLayout(path, "second", [FIRST, SECOND]);
    await push("second");
    const second = await cloudlet("pull", name);
    assert.notEqual(second, first);
    await check("second", second);
  });
});
