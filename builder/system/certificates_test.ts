import assert from "node:assert/strict";
import { join } from "node:path";
import { command, hasCommand, testDirectory } from "../archive/fixtures_test.ts";
import { fileNode, Tree } from "../tree.ts";
import { addCertificates, subjectHash } from "./certificates.ts";
import { readText } from "./text.ts";

const MOZILLA = "usr/share/ca-certificates/mozilla";

/** Subjects whose texts OpenSSL makes equal, or does not, before it hashes them. */
const SUBJECTS = [
  "/C=XX/O=Plain",
  "/C=XX/O=  Many   Spaces  /CN=ÀÉ Mixed CASE",
  "/C=XX/O=Ünïcode ☕/OU=two/OU=three+CN=together",
];

Deno.test({
  name: "certificates are hashed as openssl hashes them",
  ignore: !hasCommand("openssl"),
  async fn() {
    using directory = testDirectory();
    for (const subject of SUBJECTS) {
      const path = join(directory.path, "x.pem");
      await command(
        "openssl",
        ...["req", "-x509", "-newkey", "ed25519", "-nodes", "-utf8", "-multivalue-rdn"],
        ...["-keyout", join(directory.path, "key"), "-out", path, "-subj", subject],
      );
      const theirs = await command("openssl", "x509", "-noout", "-subject_hash", "-in", path);
      assert.equal(
        subjectHash(await Deno.readTextFile(path)),
        new TextDecoder().decode(theirs).trim(),
        subject,
      );
    }
  },
});

Deno.test({
  name: "the package's certificates are found by hash and in one file",
  ignore: !hasCommand("openssl"),
  async fn() {
    using directory = testDirectory();
    const tree = new Tree();
    const texts: string[] = [];
    for (const name of ["A (x), y.crt", "B.crt"]) {
      const path = join(directory.path, "x.pem");
      await command(
        "openssl",
        ...["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/O=same"],
        ...["-keyout", join(directory.path, "key"), "-out", path],
      );
      texts.push(await Deno.readTextFile(path));
      tree.add(`${MOZILLA}/${name}`, fileNode(texts.at(-1)!));
    }
    tree.add(`${MOZILLA}/damaged.crt`, fileNode("-----BEGIN CERTIFICATE-----\nx\n"));
    addCertificates(tree);
    const hash = subjectHash(texts[0]!)!;
    for (const [i, name] of ["A_=x=__y.pem", "B.pem"].entries()) {
      const node = tree.lookup(`etc/ssl/certs/${hash}.${i}`);
      assert(node?.type === "symlink" && node.target === name, JSON.stringify(node));
      assert.equal(readText(tree, `etc/ssl/certs/${name}`), texts[i]);
    }
    const all = readText(tree, "etc/ssl/certs/ca-certificates.crt")!;
    assert(all.startsWith(texts[0]! + texts[1]!));
    assert.match(readText(tree, "etc/ca-certificates.conf")!, /^mozilla\/B\.crt$/m);
  },
});

Deno.test("what is no certificate has no hash, and a system without the package gets nothing", () => {
  assert.equal(subjectHash("x"), undefined);
  const tree = new Tree();
  addCertificates(tree);
  assert.deepEqual([...tree.entries()], []);
});
