import assert from "node:assert/strict";
import { parseSettings } from "./settings.ts";

Deno.test("settings are read; absent ones stay absent", () => {
  assert.deepEqual(parseSettings("", "config.toml"), {
    debian: {},
    registry: { allowed: [], insecure: [], token_services: [] },
    registries: { mirrors: {} },
    images: {},
    network: {},
    cache: {},
  });
  assert.deepEqual(
    parseSettings('[debian]\nmirror = "http://127.0.0.1:8/debian"\nsuite = "bookworm"\n', "c"),
    {
      debian: { mirror: "http://127.0.0.1:8/debian", suite: "bookworm" },
      registry: { allowed: [], insecure: [], token_services: [] },
      registries: { mirrors: {} },
      images: {},
      network: {},
      cache: {},
    },
  );
  assert.deepEqual(parseSettings('[network]\nresolver = "192.0.2.53"\n', "c").network, {
    resolver: "192.0.2.53",
  });
  for (const security of ["http://127.0.0.1:8/security", false]) {
    const text = `[debian]\nsecurity = ${JSON.stringify(security)}\n`;
    assert.deepEqual(parseSettings(text, "c").debian, { security });
  }
  assert.deepEqual(
    parseSettings(
      '[registry]\nca = "/etc/ca.pem"\ninsecure = ["10.0.0.1:5000"]\n' +
        'allowed = ["docker.io", "[fd00::1]:5000"]\ntoken_services = ["git.example"]\n',
      "c",
    ).registry,
    {
      ca: "/etc/ca.pem",
      allowed: ["docker.io", "[fd00::1]:5000"],
      insecure: ["10.0.0.1:5000"],
      token_services: ["git.example"],
    },
  );
});

Deno.test("mirrors are one or several, with a scheme and a path or without", () => {
  const text = `[registries.mirrors]
"docker.io" = "mirror.example:5000"
"team.example:5000" = ["https://a.example/proxy/team/", "http://[fd00::1]:5000", "10.0.0.1"]
[registries.mirrors."other.example"]
endpoint = ["https://b.example"]
`;
  assert.deepEqual(parseSettings(text, "c").registries.mirrors, {
    "docker.io": ["mirror.example:5000"],
    "other.example": ["https://b.example"],
    "team.example:5000": ["https://a.example/proxy/team/", "http://[fd00::1]:5000", "10.0.0.1"],
  });
});

for (
  const [what, text, expected] of [
    [
      "a mirror that is no host",
      '[registries.mirrors]\n"docker.io" = "a b"\n',
      /must be a host.*docker\.io/s,
    ],
    [
      "a mirror of another scheme",
      '[registries.mirrors]\n"docker.io" = "ftp://a"\n',
      /must be a host/,
    ],
    [
      "a mirror with a login",
      '[registries.mirrors]\n"docker.io" = "http://u:p@a"\n',
      /must be a host/,
    ],
    [
      "a mirror with a path that leads up",
      '[registries.mirrors]\n"docker.io" = "a/../b"\n',
      /must be a host/,
    ],
    ["a mirror of a URL", '[registries.mirrors]\n"https://a" = "b"\n', /mirrors\["https/],
    ["a mirror that is a number", '[registries.mirrors]\n"docker.io" = 5\n', /docker\.io/],
    ["broken TOML", "[debian\n", /Cannot read the settings in x\.toml/],
    ["an unknown key", '[debian]\nmiror = "http://a/"\n', /miror/],
    ["a mirror that is no URL", '[debian]\nmirror = "here"\n', /mirror/],
    ["security updates that are on", "[debian]\nsecurity = true\n", /security/],
    ["a suite with a path in it", '[debian]\nsuite = "../x"\n', /suite/],
    ["a relative certificate", '[registry]\nca = "ca.pem"\n', /ca/],
    ["a limit that nothing meets", "[images]\nmax_mib = 0\n", /max_mib/],
    ["a time that no timer can measure", "[images]\nmax_minutes = 1e9\n", /max_minutes/],
    ["a URL as a registry", '[registry]\nallowed = ["https://a"]\n', /must be a host.*allowed/s],
    ["a path as a registry", '[registry]\ninsecure = ["a/b"]\n', /must be a host.*insecure/s],
    ["a wrong type", "debian = 3\n", /debian/],
  ] as const
) {
  Deno.test(`${what} is an error that names the file`, () => {
    assert.throws(() => parseSettings(text, "x.toml"), {
      code: "invalid-input",
      message: expected,
    });
  });
}
