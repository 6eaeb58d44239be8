import assert from "node:assert/strict";
import { join } from "node:path";
import { testDirectory } from "../archive/fixtures_test.ts";
import { parseChallenges } from "./challenge.ts";
import { findCredentials } from "./credentials.ts";
import { DEFAULT_HOST } from "./reference.ts";

const MODULE = new URL("./credentials.ts", import.meta.url).href;

async function inConfig(content: unknown, host: string) {
  using directory = testDirectory();
  const path = join(directory.path, "config.json");
  await Deno.writeTextFile(path, typeof content === "string" ? content : JSON.stringify(content));
  return await findCredentials(host, path);
}

const AUTH = btoa("ali:pa:ss");
const ALI = { kind: "password", username: "ali", password: "pa:ss" } as const;

Deno.test("docker's file is read by host, and by the URLs that it has for hosts", async () => {
  for (const key of ["host:5000", "https://host:5000", "https://host:5000/v1/"]) {
    assert.deepEqual(await inConfig({ auths: { [key]: { auth: AUTH } } }, "host:5000"), ALI);
  }
  const hub = { auths: { [`https://index.${DEFAULT_HOST}/v1/`]: { auth: AUTH } } };
  assert.deepEqual(await inConfig(hub, DEFAULT_HOST), ALI);
  assert.equal(await inConfig(hub, "host"), undefined);
  assert.deepEqual(await inConfig({ auths: { host: { identitytoken: "t" } } }, "host"), {
    kind: "identity",
    token: "t",
  });
  assert.equal(await inConfig({ auths: { host: {} } }, "host"), undefined);
  assert.equal(await findCredentials("host", "/no/such/file"), undefined);
});

for (
  const content of ["{", "[]", { auths: { host: { auth: "%%%" } } }, {
    auths: { host: { auth: btoa("x") } },
  }]
) {
  Deno.test(`${JSON.stringify(content)} is refused without what is in it`, async () => {
    await assert.rejects(inConfig(content, "host"), (error: Error & { code?: string }) => {
      assert.equal(error.code, "invalid-input");
      assert.ok(!JSON.stringify([error.message, String(error.cause)]).includes("%%%"));
      return true;
    });
  });
}

Deno.test("a credential helper is asked for its host", async (t) => {
  using directory = testDirectory();
  const { path } = directory;
  const ask = async (host: string, config: unknown): Promise<unknown> => {
    await Deno.writeTextFile(join(path, "config.json"), JSON.stringify(config));
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "eval",
        "--quiet",
        `import { findCredentials } from ${JSON.stringify(MODULE)};
         const found = await findCredentials(${JSON.stringify(host)}).catch((e) => e.message);
         console.log(JSON.stringify(found ?? null));`,
      ],
      env: { PATH: `${path}:${Deno.env.get("PATH")}`, DOCKER_CONFIG: path },
      stderr: "inherit",
    }).output();
    return JSON.parse(new TextDecoder().decode(stdout));
  };
  await Deno.writeTextFile(
    join(path, "docker-credential-test"),
    `#!/bin/sh
read -r host
case $1:$host in
  get:known) echo '{"ServerURL":"known","Username":"ali","Secret":"pa:ss"}' ;;
  get:token) echo '{"ServerURL":"token","Username":"<token>","Secret":"t"}' ;;
  get:broken) echo 'no json: hush' ;;
  get:locked) echo 'the keychain is locked' >&2; exit 3 ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
`,
    { mode: 0o755 },
  );
  const store = { credsStore: "test", auths: { other: { auth: AUTH } } };
  await t.step("as the store of all", async () => assert.deepEqual(await ask("known", store), ALI));
  await t.step("as the helper of one", async () => {
    const config = { credHelpers: { token: "test" } };
    assert.deepEqual(await ask("token", config), { kind: "identity", token: "t" });
    assert.equal(await ask("known", config), null);
  });
  await t.step("and the file has what it lacks", async () => {
    assert.deepEqual(await ask("other", store), ALI);
    assert.equal(await ask("stranger", store), null);
  });
  await t.step("what goes wrong is told, but no secret", async () => {
    assert.match(String(await ask("locked", store)), /exit code 3: the keychain is locked/);
    assert.match(String(await ask("broken", store)), /no JSON/);
    assert.doesNotMatch(String(await ask("broken", store)), /hush/);
    assert.match(String(await ask("x", { credsStore: "../sh" })), /no name of a program/);
    assert.match(String(await ask("x", { credsStore: "missing" })), /docker-credential-missing/);
  });
});

Deno.test("challenges are read as servers write them", () => {
  const read = (field: string) =>
    parseChallenges(field).map((
      { scheme, parameters },
    ) => [scheme, Object.fromEntries(parameters)]);
  assert.deepEqual(read('Bearer realm="https://a/token",service="x y",scope="r:a/b:pull,push"'), [
    ["bearer", { realm: "https://a/token", service: "x y", scope: "r:a/b:pull,push" }],
  ]);
  assert.deepEqual(read('Basic Realm="a \\"b\\"", Bearer realm=plain'), [
    ["basic", { realm: 'a "b"' }],
    ["bearer", { realm: "plain" }],
  ]);
  assert.deepEqual(read("Negotiate, Basic"), [["negotiate", {}], ["basic", {}]]);
  assert.deepEqual(read(""), []);
  assert.deepEqual(read('"'), []);
});

Deno.test("a challenge may have empty elements, and a long run of spaces takes no time", () => {
  const [challenge] = parseChallenges("Bearer , ,, realm=x , ,service=y,");
  assert.deepEqual([...challenge!.parameters], [["realm", "x"], ["service", "y"]]);
  assert.deepEqual(parseChallenges(`${" ".repeat(500_000)}(`), []); // took a minute
});
