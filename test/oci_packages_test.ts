/** Debian packages that are added to OCI images come from the archive of the image's own release. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../builder/archive/fixtures_test.ts";
import { hasTools, makeLayout } from "../builder/oci/fixtures_test.ts";
import { ownCache } from "./command_line.ts";
import { checkoutPath, denoDir } from "./paths.ts";

/** Builds the image that is named, and prints which packages it has. */
const BUILD = `
import { Builder } from ${JSON.stringify(`file://${checkoutPath("../builder/artifacts.ts")}`)};
const image = await new Builder().rootImage({
  language: "command", version: "", from: Deno.args[0], packages: ["hostname"], files: [], run: [],
  pull: false, insecure: false,
}, () => Promise.reject(new Error("no commands")));
console.log(JSON.stringify(image.manifest.packages));
`;

/** The files by which an image says that it is Debian: its name, and its C library. */
function debianFiles(release: string, libc: string): string {
  const status = `Package: libc6\\nStatus: install ok installed\\nVersion: ${libc}\\n`;
  return `mkdir -p usr/bin usr/lib etc var/lib/dpkg; ln -s usr/bin bin; ln -s usr/lib lib
    printf 'ID=debian\\nVERSION_CODENAME=${release}\\n' >usr/lib/os-release
    ln -s ../usr/lib/os-release etc/os-release; printf '${status}' >var/lib/dpkg/status`;
}

Deno.test("packages of an OCI image are of the release that the image is of", async (t) => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const { path } = directory;
  const cache = await ownCache(path);
  const program = join(path, "build.ts");
  await Deno.writeTextFile(program, BUILD);
  const build = async (name: string, script: string) => {
    await makeLayout(path, name, [script]);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--no-check", "--config", checkoutPath("../deno.json")],
        ...[program, `oci:${join(path, name)}:t`],
      ],
      env: { XDG_CACHE_HOME: cache, DENO_DIR: denoDir() },
    }).output();
    return { code, text: new TextDecoder().decode(code === 0 ? stdout : stderr) };
  };
  // glibc's upstream version tells Debian's releases apart.
  for (
    const [release, libc, inside] of [["bookworm", "2.36-9", "2.36"], ["trixie", "2.41-12", "2.41"]]
  ) {
    await t.step(release!, async () => {
      const { code, text } = await build(release!, debianFiles(release!, libc!));
      assert.equal(code, 0, text);
      const packages: { name: string; version: string }[] = JSON.parse(text);
      assert.ok(packages.some(({ name }) => name === "hostname"), text);
      // The agent's own C library is the first; that of the added packages comes after it.
      const libraries = packages.filter(({ name }) => name === "libc6");
      assert.ok(libraries.at(-1)!.version.startsWith(inside!), text);
    });
  }
  await t.step("another system is refused", async () => {
    const { code, text } = await build("other", "mkdir -p etc; echo ID=alpine >etc/os-release");
    assert.equal(code, 1);
    assert.match(text, /Cannot add Debian packages to .*: it is no Debian system/);
  });
});
