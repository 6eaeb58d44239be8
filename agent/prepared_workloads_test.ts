/** Workloads that are prepared before they run, in this agent or another one. */
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  collect,
  isHere,
  type Result,
  run,
  startAgent,
  type TestAgent,
  until,
  withAgent,
} from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { PreparedWorkloads } from "./prepared_workloads.ts";
import { checkRequest } from "../workload/request.ts";
import { Workspace } from "./workspace.ts";

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

/** Has bash idle, and then prepares a program with it. */
async function prepareIdle(agent: TestAgent, code: string): Promise<void> {
  assert((await agent.client.warm({ language: "bash" })).warm);
  const request = { workloadName: "w", language: "bash", code, action: Action.PREPARE };
  const { last } = await collect(agent.client.execute(request));
  assert.equal(last.outcome?.kind, Kind.PREPARED);
}

/** Runs what was prepared. */
function runPrepared(agent: TestAgent, env: Record<string, string> = {}): Promise<Result> {
  const request = { workloadName: "w", language: "bash", action: Action.RUN, options: { env } };
  return collect(agent.client.execute(request));
}

withAgent("the first run of what was prepared is by its idle interpreter", async (agent) => {
  await prepareIdle(agent, 'echo "$$ $LANG"');
  const [idle] = agent.children();
  await run(agent, "bash", "echo $$", { env: { LANG: "C" } }); // cleans up behind itself
  assert.deepEqual(agent.children(), [idle], "it outlives other executions");
  assert.equal((await runPrepared(agent)).out, `${idle} C.UTF-8\n`);
  const { out } = await runPrepared(agent);
  assert.match(out, /^\d+ C\.UTF-8\n$/, "and the next is by another one");
  assert(!out.startsWith(`${idle} `));
});

withAgent("an idle interpreter ends with a run that it cannot do", async (agent) => {
  await prepareIdle(agent, 'echo "$$ $LANG"');
  const [idle] = agent.children();
  const { out } = await runPrepared(agent, { LANG: "C" });
  assert.match(out, /^\d+ C\n$/);
  assert(!out.startsWith(`${idle} `));
  assert.deepEqual(agent.children(), []);
});

withAgent("a workload that is prepared again replaces the earlier one", async (agent) => {
  await prepareIdle(agent, "echo 1");
  const [first] = agent.children();
  await prepareIdle(agent, "echo 2");
  await until(() => !agent.children().includes(first!));
  assert.equal(agent.children().length, 1);
  assert.equal((await runPrepared(agent)).out, "2\n");
  await until(() => [...Deno.readDirSync(agent.root)].length === 1);
});

Deno.test("what was prepared is found by its name, its sources and how it was built", async () => {
  const directory = await Deno.makeTempDir({ prefix: "prepared-test-" });
  const jobOf = (options: MessageInitShape<typeof ExecuteRequestSchema>["options"], code = "a") =>
    checkRequest(
      create(ExecuteRequestSchema, { workloadName: "w", language: "rust", code, options }),
    );
  const workspace = Workspace.create(`${directory}/1`, []);
  try {
    const prepared = new PreparedWorkloads();
    const job = jobOf({ release: true, buildEnv: { A: "1" } });
    const project = workspace.asProject(job.sources, job);
    const kept = {
      directory: workspace.directory,
      workspace,
      project,
      sources: job.sources,
      job,
      release: () => {},
      idle: undefined,
    };
    assert.equal(prepared.keep(kept), undefined);
    const same = { release: true, buildEnv: { A: "1" } };
    assert.equal(prepared.find(jobOf(same)), kept);
    assert.equal(prepared.find(jobOf({ ...same, args: ["x"], env: { B: "2" } })), kept);
    for (
      const other of [
        jobOf(same, "b"),
        jobOf({ ...same, files: [{ path: "more" }] }),
        jobOf({ ...same, release: false }),
        jobOf({ ...same, entryPoint: "main.rs" }),
        jobOf({ ...same, buildEnv: {} }),
        jobOf({ ...same, buildEnv: { A: "2" } }),
        jobOf({ ...same, buildEnv: { A: "1", B: "" } }),
      ]
    ) assert.equal(prepared.find(other), undefined);
    assert.equal(prepared.keep({ ...kept }), kept);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
