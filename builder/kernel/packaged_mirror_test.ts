import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { oracle, run } from "../../test/oracle.ts";
import { command, testDirectory } from "../archive/fixtures_test.ts";
import { contentBytes } from "../content.ts";
import { kernelPackage, openKernelPackage } from "./packaged.ts";
import { moduleName, orderModules } from "./modules.ts";
import { openKernelArchive } from "./suite.ts";
import { unpackVmlinux } from "./vmlinuz.ts";

Deno.test("Debian's kernel is an ELF file that names its version, and its modules are in order", async () => {
  const debian = await openKernelArchive();
  const item = kernelPackage(debian);
  const { vmlinuz, modules } = await openKernelPackage(debian, item);
  const release = vmlinuz.name.slice("vmlinuz-".length);
  const pieces = await Array.fromAsync(unpackVmlinux(contentBytes(vmlinuz.content), vmlinuz.name));
  const vmlinux = Buffer.concat(pieces);
  assert.ok(vmlinux.includes(`Linux version ${release} `));

  const wanted = ["virtio_mmio", "virtio_pmem", "erofs", "vmw_vsock_virtio_transport"];
  const ordered = await orderModules(wanted, modules);
  for (const tool of ["dpkg-deb", "depmod", "xz"]) if (!await oracle(tool)) return;
  using directory = testDirectory();
  const deb = (await debian.fetch([item])).get(item.name)!;
  await run("dpkg-deb", ["--extract", deb, directory.path]);
  // From Debian 13 on packages have their files in /usr; a system has a link there.
  await Deno.symlink("usr/lib", join(directory.path, "lib"));
  await run("depmod", ["--basedir", directory.path, release]);
  // Each line: a module, and all that it needs.
  const root = join(directory.path, "lib/modules", release);
  const lines = (await Deno.readTextFile(join(root, "modules.dep"))).trim().split("\n");
  const file = (path: string) => moduleName(path.slice(path.lastIndexOf("/") + 1));
  const needs = new Map(lines.map((line) => {
    const [path, ...needed] = line.split(/:? /);
    return [file(path!.replace(/:$/, "")), { path: path!.replace(/:$/, ""), needed }];
  }));
  const seen = new Set<string>();
  for (const { name, bytes } of ordered) {
    const { path, needed } = needs.get(name)!;
    for (const need of needed.filter((need) => need !== "")) assert.ok(seen.has(file(need)), name);
    seen.add(name);
    // Debian compresses them from 13 on.
    assert.ok(path.endsWith(".ko.xz"), path);
    const unpacked = await command("xz", "--decompress", "--stdout", join(root, path));
    assert.equal(Buffer.compare(unpacked, bytes), 0, name);
  }
  for (const name of wanted) assert.ok(seen.has(name), name);
});
