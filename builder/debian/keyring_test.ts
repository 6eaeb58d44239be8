import assert from "node:assert/strict";
import { join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { ARCHIVE_KEYS } from "./archive_keys.ts";
import { makeKey } from "./fixtures_test.ts";
import { bundledKeyring, debianKeyring, sourceKeyring } from "./keyring.ts";
import { fingerprints, type Keyring } from "./release.ts";

const HOST = "/usr/share/keyrings/debian-archive-keyring.gpg";

function armoured(text: string): Keyring {
  return { name: "test keys", parts: [new TextEncoder().encode(text)] };
}

Deno.test("the bundled keys have the fingerprints that stand beside them", async () => {
  assert.deepEqual(
    await fingerprints(bundledKeyring()),
    ARCHIVE_KEYS.map(({ fingerprint }) => fingerprint),
  );
});

Deno.test({
  name: "every bundled key is in the host's debian-archive-keyring",
  ignore: !exists(HOST),
  fn: async () => {
    const host = new Set(await fingerprints(await debianKeyring({ configured: HOST })));
    for (const { fingerprint, owner } of ARCHIVE_KEYS) assert.ok(host.has(fingerprint), owner);
  },
});

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

Deno.test("the keyring is the one that was set, else the host's, else the bundled one", async () => {
  using root = testDirectory();
  const { armoredPublicKey } = await makeKey();
  const places = [
    "etc/apt/trusted.gpg.d/debian-archive-test.asc",
    "usr/share/keyrings/debian-archive-keyring.pgp",
    "usr/share/keyrings/debian-archive-keyring.gpg",
  ];
  assert.equal((await debianKeyring({ root: root.path })).name, bundledKeyring().name);
  for (const place of places) {
    const path = join(root.path, place);
    await Deno.mkdir(join(path, ".."), { recursive: true });
    await Deno.writeTextFile(path, armoredPublicKey);
    const found = await debianKeyring({ root: root.path });
    assert.ok(path.startsWith(found.name), `${found.name} for ${place}`);
    assert.equal((await fingerprints(found)).length, 1);
  }
  const configured = join(root.path, "none.gpg");
  await assert.rejects(
    debianKeyring({ configured, root: root.path }),
    (error) => error instanceof CloudletError && error.message.includes(configured),
  );
});

Deno.test("Signed-By counts when it names Debian's keys, and is somebody else's otherwise", async () => {
  using directory = testDirectory();
  const path = join(directory.path, "key.asc");
  const { armoredPublicKey } = await makeKey();
  await Deno.writeTextFile(path, armoredPublicKey);
  const debian = armoured(armoredPublicKey);
  assert.equal(await sourceKeyring([], debian), debian);
  assert.equal(await sourceKeyring(["B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8"], debian), debian);
  assert.equal((await sourceKeyring([path], debian))?.name, path);
  assert.ok(await sourceKeyring([armoredPublicKey], debian), "a key in place");
  const stranger = (await makeKey()).armoredPublicKey;
  assert.equal(await sourceKeyring([stranger], debian), undefined);
  assert.equal(await sourceKeyring([path], armoured(stranger)), undefined);
});
