import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { command, hasCommand, makeTar, testDirectory } from "../archive/fixtures_test.ts";
import { addTar } from "../archive/unpack.ts";
import { openSource } from "../archive/source.ts";
import type { DebianPackage } from "../debian/packages.ts";
import { extractTree } from "../extract.ts";
import { fileNode, Tree } from "../tree.ts";
import { DpkgDatabase } from "./dpkg_database.ts";
import { readText } from "./text.ts";

const CONFIG = "color = blue\n";

function packageOf(name: string, version: string): DebianPackage {
  const rest = { sha256: "", size: 1, url: "", source: name };
  return { name, version, architecture: "amd64", ...rest };
}

function bytes(content: Uint8Array) {
  return openSource({ kind: "bytes", bytes: content });
}

/** Unpacks a package and notes it. */
function install(
  tree: Tree,
  database: DpkgDatabase,
  [name, version]: [string, string],
  { fields = "", files = {}, control = {} }: {
    readonly fields?: string;
    readonly files?: Readonly<Record<string, string>>;
    readonly control?: Readonly<Record<string, string>>;
  },
): void {
  const text = `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\n${fields}` +
    `Maintainer: N\nDescription: short\n long\n .\n more\n`;
  const data = Object.entries(files).map(([path, content]) => ({ name: `./${path}`, content }));
  const paths = addTar(bytes(makeTar([{ name: "./", flag: "5" }, ...data])), tree);
  const md5sums = Object.entries(files).filter(([path]) => !path.startsWith("etc/"))
    .map(([path, content]) => `${createHash("md5").update(content).digest("hex")}  ${path}\n`)
    .join("");
  const members = Object.entries({ control: text, md5sums, ...control })
    .map(([name, content]) => ({ name: `./${name}`, content, mode: 0o755 }));
  database.add(packageOf(name, version), bytes(makeTar(members)), paths);
}

async function dpkg(root: string, ...args: string[]): Promise<string> {
  return new TextDecoder().decode(await command("dpkg", `--root=${root}`, ...args));
}

Deno.test({
  name: "dpkg knows the packages, their files and their configuration files",
  ignore: !hasCommand("dpkg"),
  async fn() {
    using directory = testDirectory();
    const tree = new Tree();
    const database = new DpkgDatabase();
    install(tree, database, ["tool", "1:2.0-1"], {
      files: { "usr/bin/tool": "x", "etc/tool.conf": CONFIG },
      control: {
        conffiles: "/etc/tool.conf\nremove-on-upgrade /etc/old\n",
        postinst: "#!/bin/sh\nexit 0\n",
        triggers: "interest-noawait /usr/lib/tool\ninterest ldconfig\nactivate other\n",
        "../../evil": "x",
      },
    });
    install(tree, database, ["lib", "1.0"], {
      fields: "Multi-Arch: same\n",
      files: { "usr/lib/lib.so.1": "y" },
    });
    database.writeTo(tree);
    assert.equal(tree.lookup("evil"), undefined);
    assert.equal(tree.lookup("var/lib/dpkg/info/tool.postinst")?.mode, 0o755);
    const root = join(directory.path, "root");
    await extractTree(tree, root);
    const format = "${db:Status-Abbrev}${binary:Package} ${Version} ${Conffiles}\n";
    const list = new TextDecoder().decode(
      await command("dpkg-query", `--root=${root}`, "-W", "-f", format),
    );
    assert.equal(
      list,
      "ii lib:amd64 1.0 \n" +
        "ii tool 1:2.0-1  /etc/tool.conf 6c9ae317ddbe97b951e33f75aac8cdb4\n",
    );
    assert.match(await dpkg(root, "-S", "/usr/lib/lib.so.1"), /^lib:amd64: /);
    assert.equal(await dpkg(root, "-L", "tool"), "/.\n/usr/bin/tool\n/etc/tool.conf\n");
    assert.equal(await dpkg(root, "--verify"), "", "nothing was changed");
    assert.equal(await dpkg(root, "--audit"), "", "all are configured");
    assert.equal(readText(tree, "var/lib/dpkg/triggers/ldconfig"), "tool\n");
    assert.equal(readText(tree, "var/lib/dpkg/triggers/File"), "/usr/lib/tool tool/noawait\n");
    await Deno.writeTextFile(join(root, "etc/tool.conf"), "color = red\n");
    assert.match(await dpkg(root, "--verify"), /\/etc\/tool\.conf/);
  },
});

Deno.test("packages join a database that is there, in place of older versions", () => {
  const tree = new Tree();
  const other = "Package: other\nStatus: install ok installed\nVersion: 1\n\n";
  const older = "Package: tool\nStatus: install ok installed\nVersion: 1.0\n";
  tree.add("var/lib/dpkg/status", fileNode(`${other}${older}`));
  const database = new DpkgDatabase();
  install(tree, database, ["tool", "2.0"], {});
  database.writeTo(tree);
  const status = readText(tree, "var/lib/dpkg/status")!;
  assert.deepEqual(status.match(/^(Package|Version): .*$/gm), [
    "Package: other",
    "Version: 1",
    "Package: tool",
    "Version: 2.0",
  ]);
});

Deno.test("a control file of another package is refused", () => {
  const control = bytes(makeTar([{ name: "./control", content: "Package: y\nVersion: 1\n" }]));
  assert.throws(() => new DpkgDatabase().add(packageOf("x", "1"), control, []), {
    code: "untrusted",
    message: /not that of x 1/,
  });
});
