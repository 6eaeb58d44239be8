import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { hostConfig } from "./host_config.ts";

async function configOf(
  language: string,
  files: Readonly<Record<string, string>>,
  variables: Readonly<Record<string, string>> = {},
) {
  const home = await Deno.makeTempDir();
  try {
    for (const [path, text] of Object.entries(files)) {
      await Deno.mkdir(dirname(join(home, path)), { recursive: true });
      await Deno.writeTextFile(join(home, path), text);
    }
    return await hostConfig(language, { HOME: home, ...variables });
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

Deno.test("pip: indexes and hosts, and passwords only for their hosts", async () => {
  const files = {
    ".config/pip/pip.conf":
      "[global]\nindex-url = https://me:pass%20word@pypi.example.com/simple\n" +
      "extra-index-url =\n    https://a.example.com/simple\n    http://me:plain@b.example.com/simple\n" +
      "timeout = 3\n[install]\ntrusted-host = b.example.com\n",
  };
  const { env, secrets, remarks } = await configOf("python", files);
  assert.deepEqual(env, {
    PIP_INDEX_URL: "https://me:${PIP_INDEX_URL_PASSWORD_0}@pypi.example.com/simple",
    PIP_EXTRA_INDEX_URL: "https://a.example.com/simple http://b.example.com/simple",
    PIP_TRUSTED_HOST: "b.example.com",
  });
  assert.deepEqual(secrets, {
    PIP_INDEX_URL_PASSWORD_0: { value: "pass word", hosts: ["pypi.example.com"] },
  });
  assert.match(remarks[0]!, /^The key to b\.example\.com is left out/);
  const given = await configOf("python", files, { PIP_INDEX_URL: "https://c.example.com/" });
  assert.equal(given.env["PIP_INDEX_URL"], "https://c.example.com/");
  assert.deepEqual((await configOf("python", {})).env, {});
});

Deno.test("npm: registries by scope, and the keys to them", async () => {
  const npmrc =
    "; mine\nregistry=https://npm.example.com/\n@own:registry = https://own.example.com/r/\n" +
    "//own.example.com/r/:_authToken=${TOKEN}\n//127.0.0.1:4873/:_authToken=plain\n" +
    "//own.example.com/r/:always-auth=true\ncolor=false\n";
  const { env, secrets, remarks } = await configOf("node", { ".npmrc": npmrc }, {
    TOKEN: "secret-token",
  });
  assert.equal(
    env["HOST_NPMRC"],
    "registry=https://npm.example.com/\n@own:registry=https://own.example.com/r/\n" +
      "//own.example.com/r/:_authToken=${NPM_KEY_0}\n//own.example.com/r/:always-auth=true",
  );
  assert.deepEqual(secrets, { NPM_KEY_0: { value: "secret-token", hosts: ["own.example.com"] } });
  assert.match(remarks[0]!, /127\.0\.0\.1/);
  assert(!JSON.stringify(env).includes("secret-token"));
});

Deno.test("cargo: registries and sources, and tokens by the variables that cargo reads", async () => {
  const { env, secrets } = await configOf("rust", {
    ".cargo/config.toml":
      `[registries.own-one]\nindex = "sparse+https://crates.example.com/index/"\n` +
      `[source.crates-io]\nreplace-with = "mirror"\n[source.mirror]\nregistry = "sparse+https://m.example.com/"\n` +
      `[build]\njobs = 3\n`,
    ".cargo/credentials.toml": `[registries.own-one]\ntoken = "Bearer secret-token"\n`,
  });
  assert.equal(
    env["HOST_CARGO_CONFIG"],
    `[registries."own-one"]\nindex = "sparse+https://crates.example.com/index/"\n` +
      `[source."crates-io"]\nreplace-with = "mirror"\n[source."mirror"]\n` +
      `registry = "sparse+https://m.example.com/"\n`,
  );
  assert.deepEqual(secrets, {
    CARGO_REGISTRIES_OWN_ONE_TOKEN: { value: "Bearer secret-token", hosts: ["crates.example.com"] },
  });
  await assert.rejects(
    () => configOf("rust", { ".cargo/config.toml": "x =" }),
    /Cannot use the configuration of this host, .*config\.toml/,
  );
});
