/** Pulling from Debian's docker-registry, filled by umoci and skopeo, against `umoci unpack`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../../test/oracle.ts";
import { assertSameTree } from "../../test/trees.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import type { Tree } from "../tree.ts";
import {
  hasTools,
  listXattrs,
  makeLayout,
  pull,
  readXattr,
  startRegistry,
} from "./fixtures_test.ts";

const SETXATTR = (path: string, name: string, hex: string) =>
  `python3 -c "import os; os.setxattr('${path}', '${name}', bytes.fromhex('${hex}'))"`;

const STEPS = [
  `mkdir -p etc usr/bin usr/lib var/old/deep opt/app tmp
   ln -s usr/bin bin; ln -s usr/lib lib; echo hello >etc/motd
   echo a >var/old/deep/a; echo b >var/old/b; echo one >opt/app/one; echo two >opt/app/two
   ln opt/app/one opt/app/uno; ln opt/app/one etc/eins; ln -s ../motd etc/link
   mknod opt/null c 1 3; mkfifo opt/pipe; echo ü >etc/ünïcode
   chown 1000:1001 opt/app/two; chmod 4755 opt/app/two; chmod 1777 tmp; chown -h 5:6 etc/link
   chown 3000000:4000000 etc/motd; mkdir -p ${"d".repeat(120)}/${"e".repeat(120)}
   echo long >${"d".repeat(120)}/${"e".repeat(120)}/f
   ${SETXATTR("opt/app/one", "user.color", "7265640aff00")}
   ${SETXATTR("opt/app/two", "security.capability", `01000002${"00040000".padEnd(32, "0")}`)}`,
  `rm -r var/old; rm opt/app/uno opt/pipe; mkdir var/old; echo new >var/old/new
   rm etc/link; mkdir etc/link; echo x >etc/link/x; ln etc/motd opt/motd2
   rm usr/lib -r; echo file >usr/lib
   ${SETXATTR("opt/app", "user.dir", "31")}
   python3 -c "import os; os.removexattr('opt/app/one', 'user.color')"`,
  `rm usr/lib; mkdir usr/lib; echo back >usr/lib/back; echo more >>opt/app/one`,
];

const WHOLE = { owners: true, setIds: true, devices: true, links: true, linkTimes: true } as const;

/** As assertSameTree, with the attributes in both directions. */
function assertUnpacked(tree: Tree, directory: string): void {
  assertSameTree(tree, directory, { ...WHOLE, xattr: readXattr });
  for (const [path, { xattrs }] of tree.entries()) {
    const names = [...xattrs?.keys() ?? []].sort();
    assert.deepEqual(listXattrs(join(directory, path)), names, `attributes of ${path}`);
  }
}

Deno.test("an image is what umoci unpacks, wherever it comes from and however it is packed", async (t) => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const { path } = directory;
  await makeLayout(path, "layout", STEPS);
  // A layer with an opaque directory, which repacking never makes.
  await Deno.mkdir(join(path, "over"));
  await Deno.writeTextFile(join(path, "over/only"), "this");
  await run("touch", ["-d", "@1600000001", "over/only", "over"], { cwd: path });
  await run("umoci", ["insert", "--image", "layout:t", "--opaque", "over", "/opt/app"], {
    cwd: path,
  });
  await run("umoci", ["unpack", "--image", "layout:t", "expected"], { cwd: path });
  const expected = join(path, "expected/rootfs");
  await using registry = await startRegistry(path);
  const copy = (to: string, ...args: string[]) =>
    run("skopeo", [
      "copy",
      "--insecure-policy",
      "--dest-tls-verify=false",
      ...args,
      "oci:layout:t",
      to,
    ], {
      cwd: path,
    });
  const { host } = registry;
  await copy(`docker://${host}/a/b:gzip`);
  await copy(`docker://${host}/a/b:docker`, "--format", "v2s2");
  await copy("oci:zstd:t", "--dest-compress-format", "zstd", "--dest-compress");
  await copy(`docker-archive:${path}/saved.tar:name:tag`);
  await run("skopeo", [
    ...["copy", "--insecure-policy", "--dest-tls-verify=false"],
    ...["oci:zstd:t", `docker://${host}/a/b:zstd`],
  ], { cwd: path });
  for (
    const reference of [
      `${host}/a/b:gzip`,
      `${host}/a/b:docker`,
      `${host}/a/b:zstd`,
      `oci:${path}/layout:t`,
      `oci:${path}/zstd`,
      `docker-archive:${path}/saved.tar`,
      `docker-archive:${path}/saved.tar:name:tag`,
    ]
  ) {
    await t.step(reference.replace(host, "HOST").replace(path, "DIR"), async () => {
      assertUnpacked(await pull(reference, path), expected);
    });
  }
  await t.step("the layers of the zstd image are zstd", async () => {
    const { stdout } = await run("skopeo", [
      ...["inspect", "--raw", "--tls-verify=false", `docker://${host}/a/b:zstd`],
    ]);
    assert.match(stdout, /tar\+zstd/);
  });
  await t.step("what is there already is not asked for again", async () => {
    await registry[Symbol.asyncDispose]();
    assertUnpacked(await pull(`${host}/a/b:gzip`, path), expected);
    await assert.rejects(pull(`${host}/a/b:gzip`, path, { pull: true }), { code: "unavailable" });
  });
});

// The password is "open sesame".
const HTPASSWD = "ali:$2b$04$HCOH.LR60rPjwio07ZWrjeUQxuSi8pj5LcZmE4GjqcGHKsucNmkLG\n";

Deno.test("a registry that wants a login gets it, and nobody else's image is had without", async (t) => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const { path } = directory;
  await makeLayout(path, "layout", ["echo secret >file"]);
  await Deno.writeTextFile(join(path, "htpasswd"), HTPASSWD);
  await using registry = await startRegistry(
    path,
    `auth:\n  htpasswd:\n    realm: test\n    path: ${path}/htpasswd\n`,
  );
  const reference = `${registry.host}/x:t`;
  await run("skopeo", [
    ...["copy", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds", "ali:open sesame"],
    ...["oci:layout:t", `docker://${reference}`],
  ], { cwd: path });
  const as = (username: string, password: string) => ({
    credentials: () => Promise.resolve({ kind: "password" as const, username, password }),
  });
  await t.step("nobody", async () => {
    const credentials = () => Promise.resolve(undefined);
    await assert.rejects(pull(reference, path, { credentials }), { code: "denied" });
  });
  await t.step("with a wrong password", async () => {
    await assert.rejects(pull(reference, path, as("ali", "wrong")), { code: "denied" });
  });
  await t.step("with the right one", async () => {
    const tree = await pull(reference, path, as("ali", "open sesame"));
    assert.equal(tree.lookup("file")?.type, "file");
  });
});

Deno.test("a certificate of one's own authority is believed when the settings name it", async (t) => {
  if (!(await hasTools())) return;
  using directory = testDirectory();
  const { path } = directory;
  const tls = { certificate: join(path, "cert.pem"), key: join(path, "key.pem") };
  await run("openssl", [
    ...["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"],
    ...["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tls.key, "-out", tls.certificate],
    ...["-addext", "basicConstraints=critical,CA:FALSE"],
  ]);
  await makeLayout(path, "layout", ["echo safe >file"]);
  await using registry = await startRegistry(path, "", tls);
  const reference = `${registry.host}/x:t`;
  await run("skopeo", [
    ...["copy", "--insecure-policy", "--dest-tls-verify=false"],
    ...["oci:layout:t", `docker://${reference}`],
  ], { cwd: path });
  await t.step("not without", async () => {
    await assert.rejects(pull(reference, path), { code: "unavailable", remedy: /registry\] ca/ });
  });
  await t.step("with it", async () => {
    const certificates = [await Deno.readTextFile(tls.certificate)];
    const tree = await pull(reference, path, { certificates });
    assert.equal(tree.lookup("file")?.type, "file");
  });
});
