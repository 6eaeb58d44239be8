/** A system as we make it, against one that mmdebstrap made with all maintainer scripts. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { command, hasCommand, testDirectory } from "../archive/fixtures_test.ts";
import { finishSystemTree, newSystemTree } from "../base_tree.ts";
import { openDebian } from "../debian/debian.ts";
import { extractTree } from "../extract.ts";
import { imageDeclaration } from "../image/declarations.ts";
import { BUSYBOX } from "../image/payload.ts";
import { DpkgDatabase } from "./dpkg_database.ts";
import { expectedWorld, parseWorld, systemWorld, WORLD } from "../../test/probe/world.ts";

/** What only apt, dpkg, debconf or systemd read, or what names the host that ran mmdebstrap. */
const LEFT_OUT = new RegExp(
  "^(dev/|run/|" +
    "etc/(apt/sources\\.list|systemd/|rc.\\.d/|security/opasswd|python3(/|$)|resolv\\.conf|" +
    "hostname|hosts|machine-id|ca-certificates\\.conf|\\.pwd\\.lock|(passwd|group|shadow|gshadow)-?$)|" +
    "etc/alternatives/.*\\.\\w*[0-9](\\.gz)?$|" + // manuals, which images leave out
    "etc/ld\\.so\\.cache|usr/share/(doc|man|locale|info)(/|$)|.*/__pycache__|" +
    "var/(cache|log)/|var/lib/(apt|pam|systemd|python|shells\\.state|dpkg/(alternatives|triggers))|" +
    "var/lib/(pam|python)$|" +
    "var/lib/dpkg/(status|diversions|lock|arch-native|available|info))",
);

interface Entry {
  readonly kind: string;
  readonly mode: number;
  readonly owner: string;
  readonly what: string;
}

function readTree(root: string): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  const walk = (directory: string) => {
    for (const { name } of Deno.readDirSync(join(root, directory))) {
      const path = join(directory, name);
      if (LEFT_OUT.test(path)) continue;
      const stat = Deno.lstatSync(join(root, path));
      const kind = stat.isSymlink ? "link" : stat.isDirectory ? "directory" : "file";
      const what = stat.isSymlink
        ? Deno.readLinkSync(join(root, path))
        : stat.isFile
        ? createHash("sha256").update(Deno.readFileSync(join(root, path))).digest("hex")
        : "";
      const mode = stat.isSymlink ? 0 : stat.mode! & 0o7777;
      entries.set(path, { kind, mode, owner: `${stat.uid}:${stat.gid}`, what });
      if (stat.isDirectory) walk(path);
    }
  };
  walk("");
  return entries;
}

const run = async (root: string, ...args: string[]) =>
  new TextDecoder().decode(await command("chroot", root, ...args));

/** The report of test/probe/world.sh in a system. */
async function world(root: string): Promise<Map<string, string>> {
  const report = await command(
    "bwrap",
    ...["--bind", root, "/", "--proc", "/proc", "--dev", "/dev"],
    ...["--perms", "1777", "--tmpfs", "/tmp", "--perms", "1777", "--tmpfs", "/dev/shm"],
    ...["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"],
    ...["--hostname", "cloudlet", "--cap-add", "ALL", "--clearenv", "--setenv", "HOME", "/root"],
    ...["--setenv", "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
    ...["--ro-bind", WORLD, "/mnt/world.sh", "bash", "/mnt/world.sh"],
  );
  return parseWorld(new TextDecoder().decode(report));
}

Deno.test({
  name: "a language's system is what mmdebstrap makes of its packages, scripts and all",
  ignore: Deno.uid() !== 0 || !hasCommand("mmdebstrap"),
  async fn(t) {
    const { packages: names, suite } = imageDeclaration("python");
    const debian = await openDebian({ suite });
    const packages = debian.resolve(names, { essential: true });
    const tree = newSystemTree();
    const database = new DpkgDatabase();
    await debian.unpack(packages, tree, undefined, database);
    finishSystemTree(tree, database);
    using directory = testDirectory();
    const [ours, theirs] = [join(directory.path, "ours"), join(directory.path, "theirs")];
    await extractTree(tree, ours);
    const include = packages.map(({ name }) => name).join(",");
    await command("mmdebstrap", "--variant=essential", `--include=${include}`, suite, theirs);

    await t.step("every path, mode, owner, link and content", () => {
      const [made, wanted] = [readTree(ours), readTree(theirs)];
      const different: string[] = [];
      for (const path of new Set([...made.keys(), ...wanted.keys()])) {
        const [a, b] = [made.get(path), wanted.get(path)].map((entry) => JSON.stringify(entry));
        if (a !== b) different.push(`${path}\n  ours   ${a}\n  theirs ${b}`);
      }
      assert.deepEqual(different, []);
      assert(wanted.size > 3000, `${wanted.size} paths`);
    });
    for (
      const args of [
        ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${binary:Package} ${Version}\n"],
        ["dpkg", "--audit"],
        ["ldconfig", "-p"],
        ["getent", "passwd"],
        ["getent", "group"],
        ["update-alternatives", "--query", "awk"],
        ["python3", "-c", "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"],
        ["su", "nobody", "-s", "/bin/sh", "-c", "id; locale charmap; echo $HOME"],
      ]
    ) {
      await t.step(args.join(" ").slice(0, 60), async () => {
        const [made, wanted] = [await run(ours, ...args), await run(theirs, ...args)];
        const plain = (text: string) => text.replace(/^Cache generated by.*\n/m, "");
        assert.equal(plain(made), plain(wanted));
      });
    }
    await t.step({
      name: "what programs find, which test/probe/world.txt has",
      ignore: !hasCommand("bwrap"),
      async fn() {
        assert.deepEqual(await world(theirs), await systemWorld());
        assert.deepEqual(await world(ours), await expectedWorld());
      },
    });
    assert(include.includes(BUSYBOX));
  },
});
