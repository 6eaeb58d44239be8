/** Workloads that are prepared before they run, in this agent or another one. */
import assert from "node:assert/strict";
import { collect, isHere, run, startAgent, withAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

withAgent("a prepared workload is run without its source", async (agent) => {
  const request = { workloadName: "w", language: "bash", code: "echo ran $1" };
  const prepared = await collect(agent.client.execute({ ...request, action: Action.PREPARE }));
  assert.equal(prepared.last.stage, Stage.DONE);
  assert.equal(prepared.last.outcome?.kind, Kind.PREPARED);
  assert.equal(prepared.out, "");
  for (const [code, out] of [["", "ran 1\n"], [request.code, "ran 1\n"], ["echo new", "new\n"]]) {
    const result = await collect(agent.client.execute({
      ...request,
      code: code!,
      action: Action.RUN,
      options: { args: ["1"] },
    }));
    assert.equal(result.out, out);
  }
});

withAgent("what an agent built runs in another one, which does not build", async (agent) => {
  if (!await isHere("rustc")) return;
  const request = { workloadName: "w", language: "rust", code: 'fn main() { println!("built"); }' };
  const prepared = await collect(agent.client.execute({ ...request, action: Action.PREPARE }));
  const pieces = prepared.responses.flatMap(({ built }) => built ?? []);
  assert.deepEqual([...new Set(pieces.map(({ path }) => path))], ["workload"]);
  const content = await new Blob(pieces.map(({ content }) => content.slice())).bytes();
  await using other = await startAgent();
  const result = await collect(other.client.execute({
    ...request,
    action: Action.RUN,
    options: { built: [{ path: "workload", mode: pieces[0]!.mode, content }] },
  }));
  assert.equal(result.out, "built\n");
  assert.ok(result.responses.every(({ stage }) => stage !== Stage.BUILDING));
  const outside = { ...request, options: { built: [{ path: "../x" }] } };
  await assert.rejects(collect(other.client.execute(outside)), /"\.\."/);
});

withAgent("the compiler has its variables, and the program its own", async (agent) => {
  if (!await isHere("rustc")) return;
  const code = `fn main() {
    println!("{:?} {:?}", option_env!("WHEN"), std::env::var("WHEN").ok());
    println!("{:?} {:?}", option_env!("ONE"), std::env::var("OTHER").ok());
  }`;
  const env = { WHEN: "run", ONE: "run" };
  const buildEnv = { WHEN: "build", OTHER: "build" };
  const result = await run(agent, "rust", code, { env, buildEnv });
  assert.equal(result.out, 'Some("build") Some("run")\nNone None\n', result.building);
});
