import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { CloudletError } from "../../base/errors.ts";
import { testDirectory } from "../archive/fixtures_test.ts";
import { aptProxy, parseAptConfig } from "./apt_config.ts";
import { findSources, parseDeb822, parseOneLine, type SourceSettings } from "./sources.ts";

const BOOKWORM = 'ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n';

/** What is found on a host with the given files below /etc. */
function find(files: Record<string, string>, settings: Omit<SourceSettings, "etc"> = {}) {
  using etc = testDirectory();
  for (const [path, text] of Object.entries(files)) {
    Deno.mkdirSync(dirname(join(etc.path, path)), { recursive: true });
    Deno.writeTextFileSync(join(etc.path, path), text);
  }
  return findSources({ ...settings, etc: etc.path });
}

function brief(sources: ReturnType<typeof find>): string[] {
  return sources.map(({ uri, suite, components }) => `${uri} ${suite} ${components.join(" ")}`);
}

function throwsCode(code: string, pattern: RegExp, work: () => void): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof CloudletError, String(error));
    assert.equal(error.code, code);
    assert.match(`${error.message} (${error.remedy})`, pattern);
    return true;
  });
}

Deno.test("the one-line format is read, options and comments included", () => {
  const entries = parseOneLine(`
# deb http://commented.test/debian bookworm main
deb-src http://source.test/debian bookworm main
deb http://plain.test/debian bookworm main contrib # remark
deb [ arch=amd64,i386 signed-by=/a.gpg,/b.gpg check-valid-until=no ] http://opt.test/debian x main
deb [arch=arm64] http://arm.test/debian bookworm main
deb http://flat.test/debian ./
`);
  assert.deepEqual(entries, [
    {
      uri: "http://plain.test/debian",
      suite: "bookworm",
      components: ["main", "contrib"],
      signedBy: [],
      checkValidUntil: undefined,
      checkDate: undefined,
      maxFuture: undefined,
    },
    {
      uri: "http://opt.test/debian",
      suite: "x",
      components: ["main"],
      signedBy: ["/a.gpg", "/b.gpg"],
      checkValidUntil: false,
      checkDate: undefined,
      maxFuture: undefined,
    },
  ]);
});

Deno.test("the deb822 format is read: several suites, disabled entries, keys in place", () => {
  const entries = parseDeb822(`Types: deb deb-src
URIs: http://one.test/debian http://two.test/debian
Suites: bookworm bookworm-updates
Components: main
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.test/debian
Suites: bookworm
Components: main

# remark
Types: deb
URIs: http://key.test/debian
Suites: bookworm
Components: main
Architectures: amd64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
`);
  assert.deepEqual(entries.map(({ uri, suite }) => `${uri} ${suite}`), [
    "http://one.test/debian bookworm",
    "http://one.test/debian bookworm-updates",
    "http://two.test/debian bookworm",
    "http://two.test/debian bookworm-updates",
    "http://key.test/debian bookworm",
  ]);
  assert.deepEqual(entries[0]!.signedBy, ["/usr/share/keyrings/debian-archive-keyring.gpg"]);
  assert.equal(entries[0]!.checkValidUntil, false);
  assert.deepEqual(entries[4]!.signedBy, [
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----",
  ]);
});

Deno.test("a host's own Debian entries are used, others are not", () => {
  const sources = find({
    "os-release": BOOKWORM,
    "apt/sources.list": "deb http://m.test/debian bookworm main contrib\n" +
      "deb http://m.test/debian bookworm-updates main\n" +
      "deb http://s.test/debian-security bookworm-security main\n" +
      "deb http://m.test/debian bookworm-backports main\n" +
      "deb cdrom:[Debian]/ bookworm main\n",
    "apt/sources.list.d/vendor.list": "deb https://vendor.test/apt bookworm stable\n" +
      "deb https://vendor.test/apt nodistro main\n",
    "apt/sources.list.d/more.sources":
      "Types: deb\nURIs: file:///srv/debian/\nSuites: stable\nComponents: main\n",
    "apt/sources.list.d/off.sources.disabled":
      "Types: deb\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\n",
  });
  assert.deepEqual(brief(sources), [
    "http://m.test/debian/ bookworm main contrib",
    "http://m.test/debian/ bookworm-updates main",
    "http://s.test/debian-security/ bookworm-security main",
    "file:///srv/debian/ stable main",
  ]);
  assert.deepEqual(sources.map(({ doubtful }) => doubtful), [true, false, false, true]);
});

Deno.test("another suite is asked of the host's mirrors", () => {
  const files = {
    "os-release": "ID=debian\nVERSION_CODENAME=trixie\n",
    "apt/sources.list.d/debian.sources": "Types: deb\nURIs: http://m.test/debian\n" +
      "Suites: trixie trixie-updates trixie-security\nComponents: main\n",
  };
  assert.deepEqual(find(files, { suite: "bookworm" }).map(({ suite }) => suite), [
    "bookworm",
    "bookworm-updates",
    "bookworm-security",
  ]);
});

Deno.test("a mirror that is set is used in place of the host's sources", () => {
  const files = {
    "os-release": BOOKWORM,
    "apt/sources.list": "deb http://m.test/debian bookworm main\n",
  };
  const sources = find(files, { mirror: "http://mine.test/debian" });
  assert.deepEqual(sources.map(({ uri, suite, optional }) => `${uri} ${suite} ${optional}`), [
    "http://mine.test/debian/ bookworm false",
    "http://mine.test/debian/ bookworm-updates true",
    "http://mine.test/debian-security/ bookworm-security false",
  ]);
  const security = "http://theirs.test/security";
  assert.deepEqual(
    brief(find(files, { mirror: "http://mine.test/debian", security })).slice(2),
    ["http://theirs.test/security/ bookworm-security main"],
  );
  const without = find(files, { mirror: "http://mine.test/debian", security: false });
  assert.deepEqual(without.map(({ suite }) => suite), ["bookworm", "bookworm-updates"]);
  assert.equal(find(files, { mirror: "file:///srv/debian", suite: "sid" }).length, 1);
});

Deno.test("hosts that are not Debian need a mirror and a suite", () => {
  const other = { "os-release": "ID=fedora\n", "apt/sources.list": "deb http://u.test x main\n" };
  throwsCode("host", /not Debian.*set \[debian\] mirror and suite/, () => find(other));
  throwsCode("host", /which Debian release.*set \[debian\] suite/, () => {
    find(other, { mirror: "http://m.test/debian" });
  });
  assert.equal(find({}, { mirror: "http://m.test/debian", suite: "bookworm" }).length, 3);
  throwsCode("host", /no Debian archive with the suite bookworm/, () => {
    find({ "os-release": BOOKWORM });
  });
});

Deno.test("malformed settings are refused", () => {
  for (const mirror of ["mirror.test/debian", "ftp://m.test/debian", "not a url"]) {
    throwsCode("invalid-input", /is no URL/, () => find({}, { mirror, suite: "bookworm" }));
  }
  throwsCode("invalid-input", /malformed name/, () => {
    find({}, { mirror: "http://m.test/", suite: "../x" });
  });
});

Deno.test("Valid-Until is checked unless the host's apt or the entry says no", () => {
  const list = {
    "os-release": BOOKWORM,
    "apt/sources.list": "deb http://m.test/d bookworm main\n",
  };
  const checks = (files: Record<string, string>) => find(files)[0]!.checkValidUntil;
  assert.equal(checks(list), true);
  const off = 'Acquire::Check-Valid-Until "false";';
  assert.equal(checks({ ...list, "apt/apt.conf.d/99x": off }), false);
  assert.equal(checks({ ...list, "apt/apt.conf": off, "apt/apt.conf.d/99x": "x;" }), false);
  assert.equal(checks({ ...list, "apt/apt.conf.d/99x.disabled": off }), true);
  const entry = "deb [check-valid-until=no] http://m.test/d bookworm main\n";
  assert.equal(checks({ ...list, "apt/sources.list": entry }), false);
});

Deno.test("Date may be ahead by as much as the host's apt or the entry says", () => {
  const list = {
    "os-release": BOOKWORM,
    "apt/sources.list": "deb http://m.test/d bookworm main\n",
  };
  const checks = (files: Record<string, string>) => {
    const { checkValidUntil, maxFuture } = find(files)[0]!;
    return [checkValidUntil, maxFuture];
  };
  assert.deepEqual(checks(list), [true, 10_000]);
  const day = "Acquire::Max-FutureTime 86400;";
  assert.deepEqual(checks({ ...list, "apt/apt.conf": day }), [true, 86_400_000]);
  // A clock that is not to be trusted tells nothing about Valid-Until either.
  const off = "Acquire::Check-Date false;";
  assert.deepEqual(checks({ ...list, "apt/apt.conf": off }), [false, Infinity]);
  const entry = (options: string) => ({
    ...list,
    "apt/apt.conf": off,
    "apt/sources.list": `deb [${options}] http://m.test/d bookworm main\n`,
  });
  assert.deepEqual(checks(entry("check-date=yes date-max-future=3")), [true, 3000]);
});

Deno.test("apt.conf is read with scopes, comments and lists", () => {
  const values = parseAptConfig(`
// comment "x"
Acquire::http::Proxy "http://proxy.test:3128"; # other comment
Acquire { Check-Valid-Until "no"; http { Pipeline-Depth "0"; }; /* more
 comment */ };
APT::Keep { "a"; "b"; };
DPkg::Post-Invoke { "rm -f /x || true"; };
Plain value;
`);
  assert.deepEqual(Object.fromEntries(values), {
    "acquire::http::proxy": "http://proxy.test:3128",
    "acquire::check-valid-until": "no",
    "acquire::http::pipeline-depth": "0",
    "plain": "value",
  });
});

Deno.test("apt's proxy is told by scheme and host", () => {
  const config = parseAptConfig(
    'Acquire::http::Proxy "http://p.test:1"; Acquire::http::Proxy::near.test "DIRECT";' +
      'Acquire::https::Proxy::s.test "http://q.test:2";',
  );
  assert.equal(aptProxy(config, "http://far.test/x"), "http://p.test:1");
  assert.equal(aptProxy(config, "https://far.test/x"), "http://p.test:1");
  assert.equal(aptProxy(config, "https://s.test/x"), "http://q.test:2");
  assert.equal(aptProxy(config, "http://near.test/x"), undefined);
  assert.equal(aptProxy(config, "file:///srv"), undefined);
  assert.equal(aptProxy(new Map(), "http://far.test/x"), undefined);
});
