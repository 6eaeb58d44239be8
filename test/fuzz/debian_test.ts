/** What a Debian mirror, and the host's apt, give: signed heads, indices, keys, versions, sources. */
import assert from "node:assert/strict";
import { parseAptConfig } from "../../builder/debian/apt_config.ts";
import { formatRelation, parseParagraphs, parseRelations } from "../../builder/debian/control.ts";
import { clearsign, makeIndex, makeKey } from "../../builder/debian/fixtures_test.ts";
import { bundledKeyring } from "../../builder/debian/keyring.ts";
import { PackageIndex } from "../../builder/debian/packages.ts";
import { fingerprints, parseRelease, verifyInRelease } from "../../builder/debian/release.ts";
import { resolve } from "../../builder/debian/resolve.ts";
import { parseDeb822, parseOneLine } from "../../builder/debian/sources.ts";
import { compareVersions } from "../../builder/debian/version.ts";
import { fuzz, type Random, refusedOr, refusedOrAsync } from "./harness.ts";

const utf8 = new TextEncoder();
const NOW = new Date("2024-06-01T00:00:00Z");
const URL = "http://mirror.test/dists/stable/InRelease";

const RELEASE = `Origin: Debian
Codename: bookworm
Date: Sat, 01 Jun 2024 00:00:00 UTC
Valid-Until: Sat, 08 Jun 2024 00:00:00 UTC
Acquire-By-Hash: yes
Architectures: all amd64
SHA256:
 ${"0a".repeat(32)} 1234 main/binary-amd64/Packages
 ${"0b".repeat(32)}   99 main/binary-amd64/Packages.xz
`;
const FIELDS = [
  "Date:",
  "SHA256:",
  "\n",
  "\n ",
  "\n.\n",
  " -1 ",
  "9".repeat(30),
  "- -----",
  "\r\n",
];

fuzz("release", () => (random) => {
  const release = refusedOr(
    () => parseRelease(random.damageText(RELEASE, FIELDS), URL),
    "untrusted",
  );
  if (release === undefined) return;
  assert(release.files.size > 0 && !Number.isNaN(release.date));
  for (const { size, sha256 } of release.files.values()) {
    assert(Number.isSafeInteger(size) && size >= 0 && /^[0-9a-f]{64}$/.test(sha256!));
  }
});

fuzz("inrelease", async () => {
  const key = await makeKey(new Date("2024-01-01T00:00:00Z"));
  const stranger = await makeKey(new Date("2024-01-01T00:00:00Z"));
  const keyring = { name: "test keys", parts: [utf8.encode(key.armoredPublicKey)] };
  const signed = await clearsign(RELEASE, key, NOW);
  const strange = await clearsign(RELEASE, stranger, NOW);
  const words = [
    ...signed.split("\n"),
    ...strange.split("\n"),
    "\n",
    "-----BEGIN PGP SIGNED MESSAGE-----\n",
  ];
  const whole = await verifyInRelease(signed, URL, keyring, NOW);
  return async (random) => {
    const text = random.damageText(random.chance(6) ? strange : signed, words);
    const got = await refusedOrAsync(() => verifyInRelease(text, URL, keyring, NOW), "untrusted");
    // RFC 9580 7.2: white space at the end of a line is not signed.
    const plain = (text: string) => text.replace(/[ \t\r]+$/gm, "");
    if (got !== undefined) assert.equal(plain(got), plain(whole), "a changed text is trusted");
  };
});

fuzz("keyring", async () => {
  const key = await makeKey(new Date("2024-01-01T00:00:00Z"));
  const armored = utf8.encode(key.armoredPublicKey.repeat(2));
  const parts = [...bundledKeyring().parts.slice(0, 2), armored];
  return async (random) => {
    const keyring = { name: "keys", parts: [random.damage(random.pick(parts), 3)] };
    const found = await refusedOrAsync(() => fingerprints(keyring), "invalid-input");
    if (found !== undefined) {
      assert(found.length > 0 && found.every((id) => /^[0-9a-f]{40,64}$/.test(id)));
    }
  };
});

const NAMES = ["a", "b", "c-d", "lib+x", "virtual"];
const RELATIONS = [
  "a",
  "b (>= 1.0)",
  "a | b",
  "virtual",
  "c-d:any (<< 2)",
  "a (=1)",
  ",",
  "|",
  "(",
  "",
  "gone",
];

function indexOf(random: Random): string {
  const packages = Array.from({ length: random.below(5) }, () => {
    const fields: Record<string, string> = {};
    for (const name of ["Depends", "Pre-Depends", "Provides", "Conflicts", "Breaks"]) {
      if (random.chance(3)) {
        fields[name] = random.words(RELATIONS, 1) + random.pick(["", ", a", ", virtual"]);
      }
    }
    if (random.chance(4)) fields.Essential = "yes";
    return {
      name: random.pick(NAMES),
      version: random.pick(["1", "1:2-3", "2~rc1", "0"]),
      fields,
      deb: utf8.encode("x"),
    };
  });
  return makeIndex(packages).packages;
}

fuzz("packages", () => (random) => {
  const whole = indexOf(random);
  const text = random.chance(3)
    ? whole
    : random.damageText(whole, ["\n\n", "\n", "Package: ", "Provides: ", ","]);
  refusedOr(() => {
    const index = new PackageIndex([
      { bytes: utf8.encode(text), base: "http://mirror.test/", name: "Packages" },
    ]);
    for (const name of [...index.names(), ...NAMES]) {
      for (const record of [...index.versions(name), ...index.providers(name)]) {
        assert(record.url.startsWith("http://mirror.test/") && !record.url.includes("/../"));
        assert(Number.isSafeInteger(record.size) && record.size > 0);
        void [record.depends, record.provides, record.conflicts];
      }
    }
    void index.essential();
    resolve(index, ["a"]);
  });
});

fuzz("control", () => (random) => {
  const relation = random.words(
    [...RELATIONS, ", ", " ", "\t", "(", ")", "<=", ">=", "~", ":any"],
    8,
  );
  const clauses = refusedOr(() => parseRelations(relation, "a package"), "untrusted");
  if (clauses !== undefined) {
    const written = clauses.map((clause) => clause.map(formatRelation).join(" | ")).join(", ");
    assert.deepEqual(parseRelations(written, "a package"), clauses);
  }
  const paragraphs = parseParagraphs(random.damageText(RELEASE.repeat(2), FIELDS));
  for (const fields of paragraphs) for (const [key] of fields) assert.equal(key, key.toLowerCase());
});

fuzz("versions", () => {
  const words = ["0", "1", "9", "10", "00", ".", "~", "+", "-", ":", "a", "Z", "rc"];
  return (random) => {
    const [a, b, c] = [random.words(words, 8), random.words(words, 8), random.words(words, 8)];
    const sign = (x: string, y: string) => Math.sign(compareVersions(x, y));
    assert.equal(sign(a, a), 0);
    assert.equal(sign(a, b), -sign(b, a) + 0);
    if (sign(a, b) <= 0 && sign(b, c) <= 0) assert(sign(a, c) <= 0, JSON.stringify([a, b, c]));
  };
});

fuzz("apt-sources", () => {
  const line =
    "deb [arch=amd64 signed-by=/x.gpg] http://mirror.test/debian bookworm main contrib # x\n";
  const stanza =
    "Types: deb deb-src\nURIs: http://mirror.test/debian/\nSuites: bookworm bookworm-updates\n" +
    "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n x\n\n";
  const config =
    'Acquire { Check-Valid-Until "false"; http::proxy "http://p:1/"; /* x */ }; // y\n#z\n';
  const words = ["[", "]", "{", "}", ";", '"', "/*", "*/", "//", "#", "=", "\n", "\n\n", " ", "::"];
  return (random) => {
    const entries = [
      ...parseOneLine(random.damageText(line.repeat(2), words)),
      ...parseDeb822(random.damageText(stanza.repeat(2), words)),
    ];
    for (const { uri, suite, components } of entries) {
      assert(uri !== "" && suite !== "" && !/\s/.test(uri + suite + components.join("")));
    }
    parseAptConfig(random.damageText(config.repeat(2), words));
  };
});

fuzz("debian-long-texts", () => {
  // what takes time by the square of its length takes minutes here
  const long = 300_000;
  const parts = [
    " ",
    "\t",
    "\n",
    "a",
    ",",
    "|",
    "(",
    ">",
    ".",
    "-",
    ":",
    "[",
    '"',
    "/*",
    "{",
    "\n ",
    "a ",
    "0",
    "~",
  ];
  return (random) => {
    const [one, other] = [random.pick(parts), random.pick(parts)];
    const text = one.repeat(long / one.length) + other;
    parseParagraphs(text);
    refusedOr(() => parseRelations(random.pick(["", "a", "a ("]) + text, "a package"));
    parseOneLine(`deb ${random.pick(["", "["])}${text}`);
    parseDeb822(`Types: deb\nURIs:${text}`);
    parseAptConfig(text);
    refusedOr(() => parseRelease(`SHA256:\n ${text}`, URL));
    compareVersions(text, one.repeat(long / one.length) + "b");
  };
});
