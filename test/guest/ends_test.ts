/**
 * Programs in microVMs of their own, and the ways in which they end; each microVM is a clone of one
 * snapshot. With `CLOUDLET_TEST_LONG=1` the streams have 100 and 50 MB, otherwise 2, and a disk is filled,
 * which takes minutes where kernels are emulated.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { collect, type Result } from "../../agent/harness_test.ts";
import { silentProgress } from "../../base/progress.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { HostMachine } from "../../node/host_machine.ts";
import { microVms } from "../../node/microvms.ts";
import { hasKvm } from "./fixtures.ts";
import { LONG } from "../long.ts";

type Agent = HostMachine["agent"];
type Options = NonNullable<Parameters<Agent["execute"]>[0]["options"]>;

const MB = 1_000_000;
/** Little enough that a program soon has it all. */
const MEMORY = 192;

/** A clone with bash in it. */
function clone(): Promise<HostMachine> {
  return microVms()({
    id: crypto.randomUUID(),
    language: "bash",
    memory: MEMORY,
    vcpus: 1,
    packages: [],
    signal: new AbortController().signal,
    progress: silentProgress,
  });
}

const execute = (agent: Agent, code: string, options: Options = {}) =>
  agent.execute({
    workloadName: "w",
    language: "bash",
    code,
    action: Action.PREPARE_AND_RUN,
    options: { rawOutput: true, ...options },
  });
const run = (agent: Agent, code: string, options: Options = {}): Promise<Result> =>
  collect(execute(agent, code, options));

/** A test in a clone of its own; afterwards its agent still serves. */
function inClone(
  name: string,
  body: (agent: Agent) => Promise<void>,
  { onlyLong = false } = {},
): void {
  Deno.test({
    name,
    ignore: !hasKvm() || (onlyLong && !LONG),
    async fn() {
      await using machine = await clone();
      await body(machine.agent);
      assert.equal((await run(machine.agent, "echo alive")).out, "alive\n", machine.console());
    },
  });
}

inClone("an exit code is the program's own", async (agent) => {
  const { out, err, last } = await run(agent, "echo out; echo err >&2; exit 42");
  assert.deepEqual([out, err, last.exitCode], ["out\n", "err\n", 42]);
  assert.deepEqual([last.stage, last.outcome?.kind], [Stage.DONE, Kind.EXITED]);
});

inClone("a crash is told with its signal", async (agent) => {
  const { last } = await run(agent, "kill -SEGV $$");
  assert.deepEqual([last.stage, last.outcome?.kind], [Stage.FAILED, Kind.SIGNALED]);
  assert.deepEqual([last.outcome?.signal, last.exitCode], [11, 139]);
});

inClone("an endless loop ends with its time", async (agent) => {
  const { last } = await run(agent, "while :; do :; done", { timeout: { seconds: 1n } });
  assert.equal(last.outcome?.kind, Kind.TIMED_OUT);
});

for (
  const [name, signal, code] of [["KILL", Signal.KILL, 137], ["INT", Signal.INT, 130]] as const
) {
  inClone(`a program that ${name} is sent to ends by it`, async (agent) => {
    const stream = execute(agent, "echo ready; while :; do :; done", { executionId: "loop" });
    const { last } = await collect((async function* () {
      for await (const response of stream) {
        if (response.stdoutBytes !== undefined) await agent.signal({ executionId: "loop", signal });
        yield response;
      }
    })());
    assert.deepEqual([last.outcome?.kind, last.exitCode], [Kind.KILLED, code]);
  });
}

inClone("a fork bomb ends with its time, and all of it", async (agent) => {
  const { last } = await run(agent, "bomb() { bomb | bomb & }; bomb; wait; sleep 1000", {
    timeout: { seconds: 3n },
  });
  assert.equal(last.outcome?.kind, Kind.TIMED_OUT);
  // Only the agent's own and the asking shell are left.
  const { out } = await run(
    agent,
    'for p in /proc/[0-9]*/cmdline; do read -r -d "" c <$p; echo $c; done',
  );
  assert.equal(out.split("\n").filter((name) => name === "bash").length <= 1, true, out);
});

inClone("a program that takes all memory is said to have", async (agent) => {
  const { last } = await run(agent, "x=x; while :; do x=$x$x; done");
  assert.equal(last.outcome?.kind, Kind.OUT_OF_MEMORY, JSON.stringify(last.outcome));
  assert.equal(last.exitCode, 137);
});

inClone("what a program's memory was is there for the next one", async (agent) => {
  // A run ends before the memory is free; four of these do not fit into it.
  for (let i = 0; i < 4; i++) {
    const { out, err } = await run(agent, "x=x; for i in {1..24}; do x=$x$x; done; echo ${#x}");
    assert.equal(out, `${2 ** 24}\n`, err);
  }
});

inClone("a program that fills the disk is told so", async (agent) => {
  const { err, last } = await run(agent, "head -c 1G /dev/zero >zeros");
  assert.match(err, /No space left on device/);
  assert.deepEqual([last.outcome?.kind, last.exitCode], [Kind.EXITED, 1]);
}, { onlyLong: true });

inClone("a program may close its output and go on", async (agent) => {
  const { out, last } = await run(agent, "echo out; exec >&- 2>&-; read -r -t 1 _; exit 3", {
    stdinStream: true,
  });
  assert.deepEqual([out, last.exitCode], ["out\n", 3]);
});

inClone("a child that holds the output does not keep its parent from ending", async (agent) => {
  const { out, last } = await run(agent, "(while :; do :; done) & echo started; exit 4");
  assert.deepEqual([out, last.exitCode, last.outcome?.kind], ["started\n", 4, Kind.EXITED]);
});

inClone("a program that says nothing ends with nothing said", async (agent) => {
  for (const code of [":", ""]) { // the second: an empty source
    const { out, err, last } = await run(agent, code);
    assert.deepEqual([out, err, last.exitCode, last.stage], ["", "", 0, Stage.DONE]);
  }
});

inClone("an unknown language is refused", async (agent) => {
  await assert.rejects(
    collect(agent.execute({ language: "cobol", code: "x", action: Action.PREPARE_AND_RUN })),
    /Cannot run the language "cobol"/,
  );
});

inClone("a source of 10 MB arrives whole", async (agent) => {
  const line = "# " + "x".repeat(97) + "\n";
  const code = "exec sha256sum main.sh\n" + line.repeat(10 * MB / line.length);
  const { out, last } = await run(agent, code);
  assert.equal(out.split(" ")[0], createHash("sha256").update(code).digest("hex"));
  assert.equal(last.exitCode, 0);
});

inClone("a byte is seen when it is written", async (agent) => {
  const code = "for i in 1 2 3 4 5; do printf $i; read -r -t 0.1 _; done";
  const pieces: string[] = [];
  for await (const response of execute(agent, code, { stdinStream: true })) {
    if (response.stdoutBytes) pieces.push(new TextDecoder().decode(response.stdoutBytes));
  }
  assert.deepEqual(pieces, ["1", "2", "3", "4", "5"]);
});

/** Memory that the agent has used at most, in bytes. */
async function agentPeak(agent: Agent): Promise<number> {
  const { out } = await run(agent, "grep VmHWM /proc/$PPID/status");
  return Number(/(\d+) kB/.exec(out)![1]) * 1024;
}

/** Memory of this process without the guest's, in bytes. */
function hostMemory(): number {
  const { heapTotal, external } = Deno.memoryUsage();
  return heapTotal + external;
}

inClone("what goes in comes out as it was, in bounded memory", async (agent) => {
  const before = await agentPeak(agent);
  const hostBefore = hostMemory();
  const total = LONG ? 50 * MB : 2 * MB;
  const sent = createHash("sha256");
  const stream = execute(agent, "exec cat", { executionId: "cat", stdinStream: true });
  const feed = async () => {
    await agent.input((async function* () {
      for (let left = total; left > 0;) {
        const data = crypto.getRandomValues(new Uint8Array(Math.min(left, 65536)));
        sent.update(data);
        left -= data.length;
        yield { executionId: "cat", data };
      }
    })());
  };
  let feeding: Promise<void> | undefined;
  const received = createHash("sha256");
  let count = 0;
  for await (const response of stream) {
    feeding ??= feed();
    if (!response.stdoutBytes) continue;
    count += response.stdoutBytes.length;
    received.update(response.stdoutBytes);
  }
  await feeding;
  assert.deepEqual([count, received.digest("hex")], [total, sent.digest("hex")]);
  const grown = await agentPeak(agent) - before;
  assert(grown < 48 * MB, `the agent took ${grown} bytes more`);
  const here = hostMemory() - hostBefore;
  assert(here < 64 * MB, `the host took ${here} bytes more`);
});

inClone("a flood of output comes out whole, in bounded memory", async (agent) => {
  const before = await agentPeak(agent);
  const hostBefore = hostMemory();
  const total = LONG ? 100 * MB : 2 * MB;
  const received = createHash("sha256");
  let count = 0;
  let said = "";
  // What is written goes to both; its sum comes on the other stream.
  const file = "/usr/lib/cloudlet/deno";
  const code = `cat ${file} ${file} | head -c ${total} | tee >(sha256sum >&2); wait`;
  for await (const response of execute(agent, code)) {
    if (response.stderrBytes) said += new TextDecoder().decode(response.stderrBytes);
    if (!response.stdoutBytes) continue;
    count += response.stdoutBytes.length;
    received.update(response.stdoutBytes);
  }
  assert.deepEqual([count, received.digest("hex")], [total, said.split(" ")[0]]);
  const grown = await agentPeak(agent) - before;
  assert(grown < 48 * MB, `the agent took ${grown} bytes more`);
  const here = hostMemory() - hostBefore;
  assert(here < 64 * MB, `the host took ${here} bytes more`);
});
