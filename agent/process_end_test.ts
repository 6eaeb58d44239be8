/** How programs end, by themselves or not, and that nothing is left behind. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { collect, rejectsWith, run, startAgent, until, withAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

withAgent("a signal that ends the program is reported", async (agent) => {
  const result = await run(agent, "bash", "kill -SEGV $$");
  assert.equal(result.last.stage, Stage.FAILED);
  assert.equal(result.last.exitCode, 139);
  assert.equal(result.last.outcome?.kind, Kind.SIGNALED);
  assert.equal(result.last.outcome?.signal, 11);
});

withAgent("a program gets SIGPIPE as programs do", async (agent) => {
  const result = await run(agent, "bash", "yes | head -n 1; echo ${PIPESTATUS[0]}");
  assert.equal(result.out, "y\n141\n");
});

withAgent("an endless loop ends at its time limit, with what it started", async (agent) => {
  const result = await run(agent, "bash", "sleep 1000 & echo started; while :; do :; done", {
    timeout: { nanos: 300_000_000 },
  });
  assert.equal(result.out, "started\n");
  assert.equal(result.last.stage, Stage.FAILED);
  assert.equal(result.last.exitCode, 137);
  assert.equal(result.last.outcome?.kind, Kind.TIMED_OUT);
});

withAgent("a time limit holds for a program whose output nobody reads", async (agent) => {
  const stream = agent.client.execute({
    language: "bash",
    code: "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done",
    action: Action.PREPARE_AND_RUN,
    options: { timeout: { nanos: 500_000_000 } },
  })[Symbol.asyncIterator]();
  await stream.next();
  await until(() => agent.children().length === 0);
  const result = await collect({ [Symbol.asyncIterator]: () => stream });
  assert.equal(result.last.outcome?.kind, Kind.TIMED_OUT);
});

withAgent("signals end a program, or reach its handler", async (agent) => {
  const signalled = async (code: string, signal: Signal) => {
    const stream = agent.client.execute({
      language: "bash",
      code,
      action: Action.PREPARE_AND_RUN,
      options: { executionId: "it" },
    });
    const result = collect((async function* () {
      for await (const response of stream) {
        if (response.stdout === "ready\n") await agent.client.signal({ executionId: "it", signal });
        yield response;
      }
    })());
    return await result;
  };
  const loop = "echo ready; while :; do sleep 0.05; done";
  const killed = await signalled(loop, Signal.KILL);
  assert.equal(killed.last.stage, Stage.FAILED);
  assert.equal(killed.last.exitCode, 137);
  assert.equal(killed.last.outcome?.kind, Kind.KILLED);
  const terminated = await signalled(loop, Signal.TERM);
  assert.equal(terminated.last.exitCode, 143);
  assert.equal(terminated.last.outcome?.kind, Kind.KILLED);
  const handled = await signalled(`trap 'echo bye; exit 7' INT; ${loop}`, Signal.INT);
  assert.equal(handled.out, "ready\nbye\n");
  assert.equal(handled.last.stage, Stage.DONE);
  assert.equal(handled.last.exitCode, 7);
  await rejectsWith(Code.NotFound, /no such/, agent.client.signal({ executionId: "it" }));
});

withAgent("a client that goes away ends the program", async (agent) => {
  const controller = new AbortController();
  const stream = agent.client.execute({
    language: "bash",
    code: "echo ready; sleep 1000 & sleep 1000",
    action: Action.PREPARE_AND_RUN,
  }, { signal: controller.signal });
  await assert.rejects(async () => {
    for await (const response of stream) if (response.stdout === "ready\n") controller.abort();
  });
  await until(async () =>
    agent.children().length === 0 && (await agent.client.info({})).running === 0
  );
  // and its files are gone
  await until(() => [...Deno.readDirSync(agent.root)].length === 0);
});

withAgent("what a program leaves running is ended, however it hides", async (agent) => {
  const result = await run(
    agent,
    "bash",
    "(setsid sleep 1000 & setsid setsid sleep 1001 >&- 2>&- &) ; sleep 1002 & echo done",
  );
  assert.equal(result.out, "done\n");
  assert.equal(result.last.stage, Stage.DONE);
  assert.equal(result.last.exitCode, 0);
  await until(() => agent.children().length === 0);
});

withAgent("a program that closes its output runs on to its end", async (agent) => {
  const result = await run(agent, "bash", "echo a; exec >&- 2>&-; sleep 0.2; exit 4");
  assert.equal(result.out, "a\n");
  assert.equal(result.last.exitCode, 4);
  assert.equal((await run(agent, "bash", ":")).out, "");
});

withAgent("a program that cannot be started is reported as such", async (agent) => {
  const result = await run(agent, "bash", "echo x", { workingDirectory: "none" });
  assert.equal(result.last.stage, Stage.FAILED);
  assert.equal(result.last.outcome?.kind, Kind.NOT_STARTED);
  assert.match(result.last.outcome!.message, /none": there is no such directory/);
  assert.equal(result.last.exitCode, 126);
});

Deno.test("an agent that is ended takes its programs with it", async () => {
  const started: number[] = [];
  {
    await using agent = await startAgent();
    const stream = agent.client.execute({
      language: "bash",
      code: "trap '' TERM; setsid sleep 1000 & echo $!; while :; do :; done",
      action: Action.PREPARE_AND_RUN,
    })[Symbol.asyncIterator]();
    for (let text = ""; text === "";) {
      const { value } = await stream.next();
      text = value?.stdout ?? "";
      if (text !== "") started.push(Number(text), ...agent.children());
    }
    stream.next().catch(() => {}); // the connection breaks
  }
  assert.equal(started.length, 2);
  for (const pid of started) {
    assert.throws(() => Deno.statSync(`/proc/${pid}`), Deno.errors.NotFound);
  }
});

withAgent("nothing is left when executions have ended", async (agent) => {
  const fds = () => [...Deno.readDirSync(`/proc/${agent.pid}/fd`)].length;
  const runSome = async (count: number) => {
    for (let i = 0; i < count; i++) {
      await run(agent, "bash", "cat; exit 1", { stdin: new Uint8Array(9) });
    }
    await until(() => [...Deno.readDirSync(agent.root)].length === 0);
  };
  await runSome(3);
  const before = fds(); // with what Deno opens once and keeps
  await runSome(30);
  assert.deepEqual(agent.children(), []);
  // a few are of connections that close a moment after the client's end
  assert(fds() < before + 10, `${fds()} file descriptors after 30 runs, ${before} before`);
});
