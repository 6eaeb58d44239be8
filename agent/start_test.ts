/** Commands of an image that cannot be started: which exit code and which words they end with. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { testDirectory } from "../builder/archive/fixtures_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  type OptionsSchema,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { collect, run, startAgent, type TestAgent, withAgent } from "./harness_test.ts";

type Options = MessageInitShape<typeof OptionsSchema>;

function command(agent: TestAgent, args: string[], options: Options = {}) {
  return collect(agent.client.execute({
    workloadName: "test",
    language: "command",
    action: Action.PREPARE_AND_RUN,
    options: { ...options, args },
  }));
}

/** Files as an image may have them. */
function files() {
  const directory = testDirectory();
  const at = (name: string) => join(directory.path, name);
  const write = (name: string, text: string, mode = 0o755) =>
    Deno.writeTextFileSync(at(name), text, { mode });
  for (const name of ["empty", "bin", "later", "closed"]) Deno.mkdirSync(at(name));
  write("plain", "#!/bin/sh\necho no\n", 0o644);
  write("orphan", "#!/no/such/interpreter\n");
  write("noise", "\x00\x01neither\n");
  write("works", '#!/bin/sh\necho "$PWD"\n');
  write("bin/tool", "#!/bin/sh\necho first\n");
  write("later/tool", "#!/bin/sh\necho second\n");
  write("later/only", "#!/bin/sh\necho only\n");
  Deno.mkdirSync(at("empty/only")); // a directory in the PATH is passed over
  write("bin/only", "not executable", 0o644);
  Deno.symlinkSync("nowhere", at("dangling"));
  Deno.symlinkSync(at("made/by/link"), at("link"));
  Deno.chmodSync(at("closed"), 0o700);
  Deno.chmodSync(directory.path, 0o755);
  return {
    at,
    path: ["empty", "bin", "later"].map(at).join(":"),
    [Symbol.dispose]: () => directory[Symbol.dispose](),
  };
}

const CASES: Readonly<Record<string, readonly [string, 126 | 127, RegExp]>> = {
  "a name that the PATH does not have": ["none-such", 127, /"none-such": .*PATH.*\/empty:/],
  "an empty name": ["", 127, /"": /],
  "a path to nothing": ["AT/none", 127, /AT\/none": there is no such file/],
  "a link to nothing": ["AT/dangling", 127, /AT\/dangling": .*link.*nothing/],
  "a path below a file": ["AT/plain/x", 126, /AT\/plain\/x": Not a directory/],
  "a directory": ["AT/bin", 126, /AT\/bin": it is a directory/],
  "a file that is not executable": ["AT/plain", 126, /AT\/plain": it is not executable/],
  "a script of no interpreter": ["AT/orphan", 127, /AT\/orphan": .*\/no\/such\/interpreter/],
  "what is no program": ["AT/noise", 126, /AT\/noise": .*Exec format error/],
};

Deno.test("a command that cannot be started ends as it does in a shell and in docker", async (t) => {
  await using agent = await startAgent();
  using image = files();
  for (const [what, [text, code, pattern]] of Object.entries(CASES)) {
    await t.step(what, async () => {
      const name = text.replace("AT", image.at("."));
      const { last } = await command(agent, [name], { env: { PATH: image.path } });
      assert.equal(last.outcome?.kind, Kind.NOT_STARTED, last.outcome?.message ?? "");
      assert.equal(last.exitCode, code, last.outcome.message);
      const message = last.outcome!.message.replaceAll(image.at("."), "AT");
      assert.match(message, pattern);
      assert.match(message, /^Cannot start "/);
      // The judge: what a shell that nobody here wrote ends with. A shell runs what has no format.
      if (name === "" || what === "what is no program") return;
      const { code: judged } = await new Deno.Command("/bin/bash", {
        args: ["-c", '"$0"', name],
        env: { PATH: image.path },
        clearEnv: true,
        stderr: "null",
      }).output();
      assert.equal(judged, code);
    });
  }
});

withAgent("a command is found in the program's own PATH, in its order", async (agent) => {
  using image = files();
  const env = { PATH: image.path };
  assert.equal((await command(agent, ["tool"], { env })).out, "first\n");
  assert.equal((await command(agent, ["only"], { env })).out, "only\n");
  // Relative names and directories are of where it runs, as for execvp(3).
  const commandDirectory = image.at("later");
  assert.equal((await command(agent, ["./only"], { commandDirectory })).out, "only\n");
  assert.equal(
    (await command(agent, ["only"], { commandDirectory, env: { PATH: "" } })).out,
    "only\n",
  );
  assert.equal(
    (await command(agent, ["tool"], { commandDirectory, env: { PATH: "../bin" } })).out,
    "first\n",
  );
  // The interpreter of a language is the image's, whatever PATH its program gets.
  const result = await run(agent, "bash", "echo $PATH", { env: { PATH: "/none" } });
  assert.equal(result.out, "/none\n");
});

withAgent("what is found but not executable is what is complained about", async (agent) => {
  using image = files();
  const { last } = await command(agent, ["only"], { env: { PATH: image.at("bin") } });
  assert.equal(last.exitCode, 126);
  assert.match(last.outcome!.message, /"only": .*bin\/only is not executable/);
  // A script of no interpreter before it tells less, as for execvp(3).
  Deno.writeTextFileSync(image.at("empty/tool"), "#!/no/such\n", { mode: 0o755 });
  Deno.writeTextFileSync(image.at("later/tool"), "no", { mode: 0o644 });
  Deno.chmodSync(image.at("later/tool"), 0o644);
  const path = ["empty", "later"].map(image.at).join(":");
  const both = await command(agent, ["tool"], { env: { PATH: path } });
  assert.equal(both.last.exitCode, 126);
  assert.match(both.last.outcome!.message, /later\/tool is not executable/);
});

Deno.test("the directory of a command is made, or it is said why not", async (t) => {
  await using agent = await startAgent();
  using image = files();
  const pwd = (commandDirectory: string, options: Options = {}) =>
    command(agent, ["/bin/pwd"], { ...options, commandDirectory });
  await t.step("missing ones are made, where a link leads as well", async () => {
    assert.equal((await pwd(image.at("new/deep"))).out, `${image.at("new/deep")}\n`);
    assert.equal((await pwd(image.at("link/sub"))).out, `${image.at("made/by/link/sub")}\n`);
  });
  for (
    const [name, pattern] of [
      ["plain", /plain": it is not a directory/],
      ["plain/x", /plain\/x": .*plain is not a directory/],
      ["n".repeat(300), /File name too long/],
    ] as const
  ) {
    await t.step(name.slice(0, 10), async () => {
      const { last } = await pwd(image.at(name));
      assert.equal(last.stage, Stage.FAILED);
      assert.equal(last.outcome?.kind, Kind.NOT_STARTED);
      assert.equal(last.exitCode, 126);
      assert.match(last.outcome.message, /^Cannot run in the directory "/);
      assert.match(last.outcome.message, pattern);
    });
  }
  await t.step({
    name: "one that the user may not enter",
    ignore: Deno.uid() !== 0,
    async fn() {
      const { last } = await pwd(image.at("closed"), { user: "1234" });
      assert.equal(last.exitCode, 126);
      assert.match(last.outcome!.message, /closed": the user 1234 may not enter it/);
    },
  });
});

Deno.test({
  name: "a program of another user that may not be executed is 126",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using agent = await startAgent();
    using image = files();
    Deno.writeTextFileSync(image.at("own"), "#!/bin/sh\n", { mode: 0o700 });
    const { last } = await command(agent, [image.at("own")], { user: "1234" });
    assert.equal(last.exitCode, 126);
    assert.match(last.outcome!.message, /own": the user 1234 may not execute it/);
  },
});

Deno.test({
  name: "a command runs as the user, with the home and the groups that docker gives",
  ignore: Deno.uid() !== 0,
  async fn() {
    await using agent = await startAgent();
    const print = async (options: Options) =>
      (await command(agent, ["sh", "-c", "echo $(id -u) $(id -g) $(id -G) $HOME"], options)).out;
    const text = (path: string) => Deno.readTextFileSync(path);
    const passwd = text("/etc/passwd").split("\n").map((line) => line.split(":"));
    const root = passwd.find(([, , uid]) => uid === "0")!;
    const groups = text("/etc/group").split("\n").map((line) => line.split(":"))
      .filter(([, , gid, members]) => gid !== "0" && members?.split(",").includes("root"))
      .map(([, , gid]) => ` ${gid}`).join("");
    assert.equal(await print({}), `0 0 0${groups} ${root[5]}\n`);
    assert.equal(await print({ user: "54321" }), "54321 0 0 /\n");
    assert.equal(await print({ user: "54321:" }), "54321 0 0 /\n");
    assert.equal(await print({ user: "54321:77" }), "54321 77 77 /\n");
    assert.equal(await print({ user: "54321", env: { HOME: "/own" } }), "54321 0 0 /own\n");
    assert.equal(await print({ user: "54321", env: { HOME: "" } }), "54321 0 0 /\n");
  },
});

Deno.test("a command without a PATH has docker's, and nothing of the agent's Deno", async () => {
  // Deno puts a `node` of its own in front where there is none.
  await using agent = await startAgent({ PATH: undefined });
  const { out } = await command(agent, ["sh", "-c", "echo $PATH; env"]);
  const [path, ...variables] = out.trim().split("\n");
  assert.equal(path, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  assert.deepEqual(
    variables.map((line) => line.split("=")[0]).filter((name) => name !== "_").sort(),
    ["HOME", "LANG", "PATH", "PWD", "SHLVL"].filter((name) => name !== "SHLVL"),
  );
});
