/** What a client may not ask for; see also the fuzzer of requests. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { collect, rejectsWith, run, withAgent } from "../agent/harness_test.ts";
import { ExecuteRequest_Action as Action } from "../proto/gen/cloudlet/agent/agent_pb.ts";

withAgent("requests out of order are refused and the agent lives on", async (agent) => {
  const refused = (options: Parameters<typeof run>[3], pattern: RegExp) =>
    rejectsWith(Code.InvalidArgument, pattern, run(agent, "bash", "echo no", options));
  await rejectsWith(Code.InvalidArgument, /"cobol".*python/s, run(agent, "cobol", "x"));
  for (const path of ["../x", "/etc/x", "a//b", "a/./b", "", "a\0b", "x".repeat(256)]) {
    await refused({ files: [{ path }] }, /a file name/);
    await refused({ outputs: [path] }, /an output/);
    if (path === "") continue;
    await refused({ entryPoint: path }, /entry point/);
    await refused({ workingDirectory: path }, /working directory/);
  }
  await refused({ files: [{ path: "a" }, { path: "a" }] }, /twice/);
  await refused({ files: [{ path: "a" }, { path: "a/b" }] }, /directory too/);
  await refused({ files: [{ path: "a", mode: 0o4755 }] }, /mode/);
  await refused({ files: [{ path: "main.sh" }] }, /both there/);
  const content = new Uint8Array(1);
  await refused({ files: [{ path: "l", target: "a\0b" }] }, /the link l.*NUL/);
  await refused({ files: [{ path: "l", target: "x".repeat(4096) }] }, /the link l.*4095/);
  await refused({ files: [{ path: "l", target: "x", content }] }, /the link l.*content/);
  await refused({ files: [{ path: "l", target: "x", directory: true }] }, /the link l.*directory/);
  await refused({ files: [{ path: "l", target: "x", mode: 0o755 }] }, /the link l.*mode/);
  await refused({ files: [{ path: "d", directory: true, content }] }, /directory d.*content/);
  await refused({ files: [{ path: "d", directory: true, mode: 0o755 }] }, /directory d.*mode/);
  await refused({ files: [{ path: "d", directory: true }, { path: "d" }] }, /twice/);
  const below = [{ path: "l/a/b" }, { path: "l", target: "/tmp" }];
  await refused({ files: below }, /the link l.*below it/);
  await refused({ files: [...below].reverse() }, /the link l.*below it/);
  await refused({ files: [{ path: "l", target: "." }, { path: "l/d", directory: true }] }, /below/);
  await refused({ files: [{ path: "a/".repeat(200) + "b" }] }, /deeper than/);
  const deep = Array.from({ length: 300 }, (_, i) => ({ path: `${i}/${"a/".repeat(100)}b` }));
  await refused({ files: deep }, /in more than 20000 directories/);
  await refused({ args: ["x\0"] }, /NUL/);
  await refused({ args: ["x".repeat(131_072)] }, /longer/);
  await refused({ args: Array(20).fill("x".repeat(100_000)) }, /together/);
  await refused({ args: Array(5000).fill("x") }, /more than/);
  await refused({ env: { "A=B": "x" } }, /valid name/);
  await refused({ env: { "": "x" } }, /valid name/);
  await refused({ buildEnv: { "A=B": "x" } }, /valid name/);
  await refused({ executionId: "../x" }, /execution id/);
  await refused({ timeout: { seconds: -1n } }, /timeout/);
  await refused({ entryPoint: "none.sh" }, /no such file/);
  await rejectsWith(
    Code.NotFound,
    /not prepared/,
    collect(agent.client.execute({ language: "bash", action: Action.RUN, workloadName: "x" })),
  );
  assert.equal((await run(agent, "bash", "echo yes")).out, "yes\n");
});
