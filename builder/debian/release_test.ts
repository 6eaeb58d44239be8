import assert from "node:assert/strict";
import { join } from "node:path";
import * as openpgp from "openpgp";
import { CloudletError } from "../../base/errors.ts";
import { silentProgress } from "../../base/progress.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { clearsign, makeKey, sourceOf, startMirror, SUITE } from "./fixtures_test.ts";
import {
  checkValidity,
  isUnknownSigner,
  type Keyring,
  parseRelease,
  verifyInRelease,
} from "./release.ts";
import { openRelease } from "./suite.ts";

const KEY = await makeKey();
const OTHER = await makeKey();
const TEXT = "Origin: Debian\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n- dashes\nSHA256:\n";

function keyring(...keys: { armoredPublicKey: string }[]): Keyring {
  return {
    name: "test keyring",
    parts: keys.map((key) => new TextEncoder().encode(key.armoredPublicKey)),
  };
}

async function signedBy(...keys: { privateKey: openpgp.PrivateKey }[]): Promise<string> {
  return await openpgp.sign({
    message: await openpgp.createCleartextMessage({ text: TEXT }),
    signingKeys: keys.map((key) => key.privateKey),
  });
}

const untrusted = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof CloudletError, String(error));
  assert.equal(error.code, "untrusted");
  assert.match(error.message, pattern);
  assert.ok(error.remedy);
  return true;
};

Deno.test("the signed text comes out, whichever of several signers is known", async () => {
  for (const known of [[KEY], [OTHER], [KEY, OTHER]]) {
    const text = await verifyInRelease(await signedBy(KEY, OTHER), "url", keyring(...known));
    assert.equal(text.trimEnd(), TEXT.trimEnd());
  }
});

Deno.test("armoured keys, several blocks in one file and binary keys are read", async () => {
  const signed = await signedBy(KEY);
  const binary = (await openpgp.readKey({ armoredKey: KEY.armoredPublicKey })).write();
  const both = `${OTHER.armoredPublicKey}\nremark\n${KEY.armoredPublicKey}`;
  for (const part of [binary as Uint8Array, new TextEncoder().encode(both)]) {
    await verifyInRelease(signed, "url", { name: "k", parts: [part] });
  }
});

Deno.test("any change of the signed text is refused", async () => {
  const signed = await signedBy(KEY);
  for (const change of [["Debian", "Debiam"], ["2026", "2027"], ["- - dashes", "- - dashes 2"]]) {
    await assert.rejects(
      verifyInRelease(signed.replace(change[0]!, change[1]!), "http://m.test/x", keyring(KEY)),
      untrusted(/^Cannot trust http:\/\/m.test\/x: the signature by key [0-9a-f]{16}/),
    );
  }
});

Deno.test("keys that are unknown, expired or not yet valid do not count", async () => {
  const signed = await signedBy(KEY);
  await assert.rejects(verifyInRelease(signed, "url", keyring(OTHER)), (error) => {
    assert.ok(isUnknownSigner(error));
    return untrusted(/unknown keys .* none of them in test keyring/)(error);
  });
  const past = new Date(Date.now() - 10 * 86_400_000);
  const expired = await makeKey(past, 86_400);
  const old = await clearsign(TEXT, expired, past);
  await verifyInRelease(old, "url", keyring(expired), new Date(past.getTime() + 1000));
  await assert.rejects(verifyInRelease(old, "url", keyring(expired)), untrusted(/expired/));
  const early = new Date(Date.now() - 86_400_000);
  await assert.rejects(
    verifyInRelease(signed, "url", keyring(KEY), early),
    untrusted(/no signature/),
  );
});

Deno.test("a good signature beside an expired one is enough", async () => {
  const past = new Date(Date.now() - 10 * 86_400_000);
  const expired = await makeKey(past, 86_400 * 20);
  const signed = await signedBy(expired, KEY);
  const later = new Date(Date.now() + 15 * 86_400_000);
  await verifyInRelease(signed, "url", keyring(expired, KEY), later);
  await assert.rejects(
    verifyInRelease(signed, "url", keyring(expired), later),
    untrusted(/expired/),
  );
});

Deno.test("a release has dates, files and switches", () => {
  const digest = "a".repeat(64);
  const release = parseRelease(
    "Origin: Debian\nCodename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n" +
      "Valid-Until: Sun, 12 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\n" +
      `Architectures: all amd64\nMD5Sum:\n ${"b".repeat(32)} 1 x\n` +
      `SHA256:\n ${digest}     1234 main/binary-amd64/Packages.xz\n ${digest} 0 empty\n`,
    "url",
  );
  assert.equal(release.date, Date.UTC(2026, 6, 11, 10, 16, 37));
  assert.equal(release.validUntil, Date.UTC(2026, 6, 12, 10, 16, 37));
  assert.equal(release.byHash, true);
  assert.equal(release.allIncluded, false, "packages for all have an index of their own");
  assert.deepEqual([...release.files], [
    ["main/binary-amd64/Packages.xz", { sha256: digest, size: 1234 }],
    ["empty", { sha256: digest, size: 0 }],
  ]);
});

Deno.test("a release without files, without or with a malformed date is refused", () => {
  const files = `SHA256:\n ${"a".repeat(64)} 1 x\n`;
  const date = "Date: Sat, 11 Jul 2026 10:16:37 UTC\n";
  for (
    const text of ["", date, files, `Date: soon\n${files}`, `${date}SHA256:\n zz 1 x\n`] as const
  ) assert.throws(() => parseRelease(text, "url"), untrusted(/Cannot trust url/));
  assert.equal(parseRelease(date + files, "url").files.size, 1);
});

Deno.test("a release is valid up to its Valid-Until", () => {
  const release = parseRelease(
    "Date: Sat, 11 Jul 2026 10:00:00 UTC\nValid-Until: Sat, 18 Jul 2026 10:00:00 UTC\n" +
      `SHA256:\n ${"a".repeat(64)} 1 x\n`,
    "http://m.test/InRelease",
  );
  checkValidity(release, new Date("2026-07-18T10:00:00Z"));
  assert.throws(
    () => checkValidity(release, new Date("2026-07-18T10:00:01Z")),
    untrusted(/m.test\/InRelease: it was valid until 2026-07-18T10:00:00/),
  );
  checkValidity({ ...release, validUntil: undefined }, new Date("2100-01-01"));
});

Deno.test("Valid-Until counts for cached releases too, unless it is not to be checked", async () => {
  await using mirror = await startMirror(KEY, []);
  const soon = new Date(Date.now() + 2000);
  await mirror.publish([], { "Valid-Until": soon.toUTCString() });
  using directory = testDirectory();
  const source = sourceOf(mirror);
  const context = {
    cache: join(directory.path, "cache"),
    maxAge: 3_600_000,
    progress: silentProgress,
    fetch: { attempts: 1 },
  };
  assert.equal((await openRelease(source, keyring(KEY), context))?.codename, SUITE);
  await mirror.stop();
  // The cached text, as it would be a week later.
  const path = join(
    context.cache,
    "release",
    [...Deno.readDirSync(join(context.cache, "release"))][0]!.name,
  );
  const cached = JSON.parse(await Deno.readTextFile(path));
  cached.text = cached.text.replace(
    /Valid-Until: .*/,
    "Valid-Until: Thu, 01 Jan 2026 00:00:00 UTC",
  );
  await Deno.writeTextFile(path, JSON.stringify(cached));
  await assert.rejects(
    openRelease(source, keyring(KEY), context),
    untrusted(/valid until 2026-01-01/),
  );
  const unchecked = { ...source, checkValidUntil: false };
  assert.equal((await openRelease(unchecked, keyring(KEY), context))?.codename, SUITE);
});

Deno.test("somebody else's archive is left alone, but not one that claims to be Debian's", async () => {
  await using mirror = await startMirror(OTHER, []);
  using directory = testDirectory();
  const source = sourceOf(mirror, { doubtful: true });
  const infos: string[] = [];
  const context = {
    cache: directory.path,
    maxAge: 0,
    progress: { ...silentProgress, info: (message: string) => void infos.push(message) },
    fetch: { attempts: 1 },
  };
  await assert.rejects(openRelease(source, keyring(KEY), context), isUnknownSigner);
  await mirror.publish([], { Origin: "Vendor" });
  assert.equal(await openRelease(source, keyring(KEY), context), undefined);
  assert.match(infos.join(), /archive of Vendor/);
  const certain = { ...source, doubtful: false };
  await assert.rejects(openRelease(certain, keyring(KEY), context), isUnknownSigner);
});

Deno.test("a cached release is not used with another keyring", async () => {
  await using mirror = await startMirror(KEY, []);
  using directory = testDirectory();
  const source = sourceOf(mirror);
  const context = {
    cache: directory.path,
    maxAge: 3_600_000,
    progress: silentProgress,
    fetch: { attempts: 1 },
  };
  assert.ok(await openRelease(source, keyring(KEY), context));
  await assert.rejects(openRelease(source, keyring(OTHER), context), isUnknownSigner);
});
