import assert from "node:assert/strict";
import { parseSettings } from "./settings.ts";

Deno.test("settings are read; absent ones stay absent", () => {
  assert.deepEqual(parseSettings("", "config.toml"), {
    debian: {},
    registry: { insecure: [] },
    images: {},
  });
  assert.deepEqual(
    parseSettings('[debian]\nmirror = "http://127.0.0.1:8/debian"\nsuite = "bookworm"\n', "c"),
    {
      debian: { mirror: "http://127.0.0.1:8/debian", suite: "bookworm" },
      registry: { insecure: [] },
      images: {},
    },
  );
  for (const security of ["http://127.0.0.1:8/security", false]) {
    const text = `[debian]\nsecurity = ${JSON.stringify(security)}\n`;
    assert.deepEqual(parseSettings(text, "c").debian, { security });
  }
  assert.deepEqual(
    parseSettings('[registry]\nca = "/etc/ca.pem"\ninsecure = ["10.0.0.1:5000"]\n', "c").registry,
    { ca: "/etc/ca.pem", insecure: ["10.0.0.1:5000"] },
  );
});

for (
  const [what, text, expected] of [
    ["broken TOML", "[debian\n", /Cannot read the settings in x\.toml/],
    ["an unknown key", '[debian]\nmiror = "http://a/"\n', /miror/],
    ["a mirror that is no URL", '[debian]\nmirror = "here"\n', /mirror/],
    ["security updates that are on", "[debian]\nsecurity = true\n", /security/],
    ["a suite with a path in it", '[debian]\nsuite = "../x"\n', /suite/],
    ["a relative certificate", '[registry]\nca = "ca.pem"\n', /ca/],
    ["a limit that nothing meets", "[images]\nmax_mib = 0\n", /max_mib/],
    ["a time that no timer can measure", "[images]\nmax_minutes = 1e9\n", /max_minutes/],
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
