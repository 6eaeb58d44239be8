/** Several executions, and such as survive their client. */
import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { Execution, type Response } from "./execution.ts";
import { collect, rejectsWith, run, type TestAgent, withAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

withAgent("executions side by side do not meet", async (agent) => {
  const results = await Promise.all(
    Array.from(
      { length: 12 },
      (_, i) => run(agent, "bash", `echo ${i} > f; sleep 0.0$((RANDOM % 10)); cat f; exit ${i}`),
    ),
  );
  for (const [i, { out, last }] of results.entries()) {
    assert.equal(out, `${i}\n`);
    assert.equal(last.exitCode, i);
  }
  const twice = { language: "bash", action: Action.PREPARE_AND_RUN, options: { executionId: "a" } };
  const first = collect(agent.client.execute({ ...twice, code: "sleep 0.3; echo first" }));
  while ((await agent.client.info({})).running === 0) { /* until it is there */ }
  await rejectsWith(
    Code.FailedPrecondition,
    /under way/,
    collect(agent.client.execute({ ...twice, code: "echo second" })),
  );
  assert.equal((await first).out, "first\n");
});

const SLOW = "i=0; while [ $i -lt 20 ]; do echo $i; i=$((i + 1)); sleep 0.05; done";

/** Starts SLOW and leaves it after its first output. @returns what was read */
async function leaveEarly(agent: TestAgent, id: string): Promise<string> {
  const client = new AbortController();
  let out = "";
  try {
    const options = { executionId: id };
    const request = { language: "bash", code: SLOW, action: Action.PREPARE_AND_RUN, options };
    for await (const event of agent.client.execute(request, { signal: client.signal })) {
      out += event.stdout ?? "";
      if (out === "") continue;
      await agent.client.hold({ executionId: id, seconds: 20 });
      client.abort();
    }
  } catch (error) {
    assert(client.signal.aborted, String(error));
  }
  return out;
}

withAgent(
  "a held execution waits for the next client, who gets all that follows",
  async (agent) => {
    const before = await leaveEarly(agent, "held");
    let after = "";
    let first: string | undefined;
    let last: Stage | undefined;
    for await (const event of agent.client.attach({ executionId: "held" })) {
      first ??= event.executionId;
      after += event.stdout ?? "";
      last = event.stage;
    }
    assert.equal(last, Stage.DONE);
    assert.equal(first, "held");
    const lines = Array.from({ length: 20 }, (_, i) => `${i}\n`).join("");
    // What was sent to a client that did not read it any more is the only thing that may be missing.
    assert(lines.startsWith(before) && lines.endsWith(after), `${before}|${after}`);
    assert(before.length + after.length >= lines.length - 4, `${before}|${after}`);
    await rejectsWith(
      Code.NotFound,
      /there is none/,
      collect(agent.client.attach({ executionId: "held" })),
    );
  },
);

withAgent("a held execution ends when it is let go, or when nobody comes", async (agent) => {
  for (const end of ["let-go", "time"]) {
    await leaveEarly(agent, end);
    const seconds = end === "time" ? 1 : 0;
    await agent.client.hold({ executionId: end, seconds });
    for (let tries = 0; (await agent.client.info({})).running > 0; tries++) {
      assert(tries < 500, end);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
});

const LONG = "i=0; while [ $i -lt 40 ]; do echo $i; i=$((i + 1)); sleep 0.05; done; exit 7";

for (const order of ["leaves first", "leaves later", "stays", "stays and does not read"]) {
  withAgent(
    `an execution outlives the time of its hold once it is attached: ${order}`,
    async (agent) => {
      const executionId = "held";
      const left = new AbortController();
      const { signal } = left;
      const options = { executionId };
      const request = { language: "bash", code: LONG, action: Action.PREPARE_AND_RUN, options };
      const first = agent.client.execute(request, { signal })[Symbol.asyncIterator]();
      for (let out = ""; !out.includes("3\n");) out += (await first.next()).value?.stdout ?? "";
      if (order !== "stays and does not read") {
        void (async () => {
          while (!(await first.next()).done) { /* it reads to its end */ }
        })().catch(() => {});
      }
      await agent.client.hold({ executionId, seconds: 1 }); // the program takes two
      if (order === "leaves first") left.abort();
      const { last } = await collect((async function* () {
        for await (const response of agent.client.attach({ executionId })) {
          if (order === "leaves later") left.abort();
          yield response;
        }
      })());
      assert.deepEqual([last.stage, last.exitCode], [Stage.DONE, 7]);
      left.abort();
    },
  );
}

/** An execution that yields what it is given. */
function manual() {
  const pieces = Array.from({ length: 3 }, () => Promise.withResolvers<Response>());
  const execution = new Execution("manual", false, () => {});
  execution.begin((async function* () {
    for (const { promise } of pieces) yield await promise;
  })());
  const say = (index: number) => pieces[index]!.resolve({ stdout: String(index) });
  return { execution, say };
}

const stdoutOf = ({ value }: IteratorResult<Response>) => value?.stdout;

Deno.test("what a held execution says goes to its next client, though the last one has not left yet", async () => {
  const { execution, say } = manual();
  const first = new AbortController();
  const client = execution.take(first.signal);
  say(0);
  assert.equal(stdoutOf(await client.next()), "0");
  execution.hold(20);
  const lost = client.next();
  say(1);
  await new Promise((go) => setTimeout(go, 20)); // it could be taken now
  first.abort();
  assert.deepEqual(await lost, { done: true, value: undefined });
  const second = execution.take(new AbortController().signal);
  assert.equal(stdoutOf(await second.next()), "1");
  say(2);
  assert.equal(stdoutOf(await second.next()), "2");
  assert.equal((await second.next()).done, true);
});

Deno.test("a held execution that is released goes on with the client that it has", async () => {
  for (const seconds of [20, 0.05]) { // released, or forgotten
    const { execution, say } = manual();
    const client = execution.take(new AbortController().signal);
    execution.hold(seconds);
    const next = client.next();
    say(0);
    if (seconds === 20) {
      await new Promise((go) => setTimeout(go, 20));
      execution.hold(0);
    }
    assert.equal(stdoutOf(await next), "0");
    say(1);
    say(2);
    assert.equal(stdoutOf(await client.next()), "1");
    assert.equal(stdoutOf(await client.next()), "2");
    assert.equal((await client.next()).done, true);
  }
});
