import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { withServer } from "../test/cli_process.ts";
import { readVariableFile } from "./variables.ts";

async function withFile(
  content: string | Uint8Array,
  test: (path: string) => Promise<void>,
): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(
      path,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
    await test(path);
  } finally {
    await Deno.remove(path);
  }
}

const GOOD = '\ufeffA=1\r\n  B= two words  \r\n# no\n   # no\n\nC="q"\nD=\nE=a=b # c\n' +
  "CLOUDLET_TEST_HERE\nCLOUDLET_TEST_NOT_HERE\nA=2\nF.-x=\\n";

Deno.test("a file of variables is read as docker does", () =>
  withFile(GOOD, async (path) => {
    Deno.env.set("CLOUDLET_TEST_HERE", "mine");
    deepEqual(await readVariableFile(path), {
      A: "2",
      B: " two words  ",
      C: '"q"',
      D: "",
      E: "a=b # c",
      "F.-x": "\\n",
      CLOUDLET_TEST_HERE: "mine",
    });
  }));

Deno.test("what is wrong in a file of variables is told with its line", async () => {
  for (
    const [content, message] of [
      ["A=1\n=x\n", /: line 2: it has no name/],
      ["A=1\n\nA B=1\nC D=2", /: line 3: the name "A B" has a blank/],
      ["export A=1", /: line 1: the name "export A" has a blank/],
      ["A =1", /: line 1: the name "A " has a blank/],
      ["A=\0", /: line 1: it has a NUL/],
      [new Uint8Array([0x41, 0x0a, 0xff]), /: line 2: it is not UTF-8/],
    ] as const
  ) {
    await withFile(
      content,
      (path) => rejects(readVariableFile(path), { code: "invalid-input", message }),
    );
  }
  await rejects(readVariableFile("/nowhere"), { code: "not-found" });
  await withFile("", async (path) => deepEqual(await readVariableFile(path), {}));
});

Deno.test("--env overrides --env-file, a later file an earlier one, and both override the config", () =>
  withServer({
    "a.sh": 'echo "$A $B $C $D $E"',
    "one.env": "A=one\nB=one\nC=one\n# A=no\n",
    "two.env": "B=two\nE\n",
    "bad.env": "A=1\n B x=1\n",
    "config.toml":
      '[build]\nsource-code-path = "a.sh"\n[run]\nenv = { C = "config", D = "config" }\n',
  }, async (cloudlet, path) => {
    const files = ["--env-file", path("one.env"), "--env-file", path("two.env")];
    const env = { E: "caller" };
    const ended = await cloudlet(["run", ...files, "-e", "A=flag", path("config.toml")], { env })
      .ended();
    deepEqual(ended, { code: 0, stdout: "flag two one config caller\n", stderr: "" });
    const bad = await cloudlet(["run", "--env-file", path("bad.env"), path("a.sh")]).ended();
    equal(bad.code, 125);
    match(bad.stderr, /bad\.env: line 2: /);
    const none = await cloudlet(["run", "--env-file", path("none"), path("a.sh")]).ended();
    equal(none.code, 125);
    match(none.stderr, /Cannot read the variables of .*none: there is no such file/);
  }));
