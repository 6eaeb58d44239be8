import assert from "node:assert/strict";
import { InputDemand, parseSyscall, watchedBy } from "./input_demand.ts";
import { collect, isHere, type TestAgent, until, withAgent } from "./harness_test.ts";
import { ExecuteRequest_Action as Action } from "../proto/gen/cloudlet/agent/agent_pb.ts";

Deno.test("what a thread sleeps in is read from /proc", () => {
  assert.deepEqual(parseSyscall("0 0x3 0x7f7a 0x20000 0x7f7a 0xffffffff 0x0 0x7ffc 0x7f7a\n"), {
    number: 0,
    first: 3,
  });
  assert.equal(parseSyscall("running\n"), undefined);
  assert.equal(parseSyscall("-1 0x7ffc 0x7f7a\n"), undefined, "no system call");
  assert.equal(parseSyscall(""), undefined);
  const info = "pos:\t0\nflags:\t02000002\ntfd:        0 events: 19 data: 0 pos:0\n" +
    "tfd:       12 events: 80000019 data: c\n";
  assert.deepEqual(watchedBy(info), [0, 12]);
});

Deno.test("looks become rarer, and are never further apart than a second", () => {
  const demand = new InputDemand(1000);
  let now = 1000;
  const pauses: number[] = [];
  for (let looks = 0; looks < 60; looks++) {
    pauses.push(demand.wait(now));
    now += demand.wait(now);
    assert.equal(demand.wait(now), 0);
    demand.looked(now, now);
  }
  assert.deepEqual(pauses.toSorted((a, b) => a - b), pauses);
  assert.deepEqual([pauses[0], pauses.at(-1)], [20, 1000]);
});

Deno.test("looks that take long are rare, and all threads are looked at once a second", () => {
  const demand = new InputDemand(0);
  demand.looked(20, 30);
  assert.equal(demand.wait(30), 160);
  demand.looked(190, 290);
  assert.equal(demand.wait(290), 1000);
  assert.deepEqual([demand.isOfAll(999), demand.isOfAll(1000)], [false, true]);
  demand.looked(1290, 1300);
  assert.deepEqual([demand.isOfAll(2299), demand.isOfAll(2300)], [false, true]);
});

/** Runs a program with input on demand. @returns what was sent to it, and what it wrote */
async function runOnDemand(agent: TestAgent, language: string, code: string, cold = true) {
  const executionId = "demand";
  let wanted = false;
  let later = false;
  let accepted = -1n;
  const stream = agent.client.execute({
    language,
    code,
    action: Action.PREPARE_AND_RUN,
    options: { executionId, stdinStream: true, stdinOnDemand: true, cold },
  });
  const { out, err, last } = await collect((async function* () {
    for await (const response of stream) {
      later ||= response.inputLater;
      if (response.inputWanted) {
        assert(!wanted, "it is said once");
        wanted = true;
        void agent.client.input((async function* () {
          yield { executionId, data: new TextEncoder().encode("one\ntwo\n") };
        })()).then((answer) => accepted = answer.acceptedBytes);
      }
      yield response;
    }
  })());
  assert(later, "that it comes later is said");
  if (wanted) await until(() => accepted !== -1n);
  return { out, err, wanted, read: last.inputRead === undefined ? -1 : Number(last.inputRead) };
}

const READERS: readonly (readonly [language: string, program: string, code: string])[] = [
  ["bash", "bash", "sleep 0.2; read -r x; read -r y; echo $x $y"],
  ["bash", "bash", "exec 3<&0 </dev/null; { cat <&3; } | tr '\\n' ' '"],
  ["python", "python3", "print(input(), input())"],
  [
    "python",
    "python3",
    "import selectors, os\ns = selectors.DefaultSelector()\ns.register(0, selectors.EVENT_READ)\n" +
    "s.select()\nprint(os.read(0, 99).decode().replace('\\n', ' '))",
  ],
  ["python", "python3", "import select\nselect.select([0], [], [])\nprint(input(), input())"],
  [
    "node",
    "node",
    "let t = ''; process.stdin.on('data', (d) => t += d).on('end', () => console.log(t.replaceAll('\\n', ' ')));",
  ],
  ["node", "node", "console.log(require('fs').readFileSync(0, 'utf8').replaceAll('\\n', ' '))"],
  [
    "deno",
    "deno",
    "console.log((await new Response(Deno.stdin.readable).text()).replaceAll('\\n', ' '))",
  ],
];

for (const [language, program, code] of READERS) {
  withAgent(
    `input is wanted when a ${language} program waits for it: ${code.slice(0, 40)}`,
    async (agent) => {
      if (!await isHere(program)) return;
      for (const cold of [true, false]) {
        if (!cold) assert((await agent.client.warm({ language })).warm);
        const { out, err, wanted, read } = await runOnDemand(agent, language, code, cold);
        assert.equal(out.trim(), "one two", err);
        assert(wanted);
        assert.equal(read, 8);
      }
    },
  );
}

const OTHERS: readonly (readonly [language: string, program: string, code: string])[] = [
  ["bash", "bash", "sleep 0.4; exec 0<&-; sleep 0.3"],
  [
    "python",
    "python3",
    "import time, threading\nthreading.Thread(target=lambda: time.sleep(0.5)).start()\ntime.sleep(0.4)",
  ],
  ["node", "node", "setTimeout(() => {}, 500)"],
  ["deno", "deno", "await new Promise((resolve) => setTimeout(resolve, 500))"],
];

for (const [language, program, code] of OTHERS) {
  withAgent(`input is not wanted by a ${language} program that does not read`, async (agent) => {
    if (!await isHere(program)) return;
    for (const cold of [true, false]) {
      if (!cold) assert((await agent.client.warm({ language })).warm);
      const { wanted, read } = await runOnDemand(agent, language, code, cold);
      assert(!wanted);
      assert(read <= 0);
    }
  });
}

withAgent("how much of its input a program read is told", async (agent) => {
  const read = async (code: string, stdin: Uint8Array<ArrayBuffer>, cold = true) => {
    if (!cold) assert((await agent.client.warm({ language: "bash" })).warm);
    const options = { stdin, cold };
    const { last } = await collect(
      agent.client.execute({ language: "bash", code, action: Action.PREPARE_AND_RUN, options }),
    );
    return last.inputRead === undefined ? undefined : Number(last.inputRead);
  };
  const lines = new TextEncoder().encode("1\n22\n333\n");
  for (const cold of [true, false]) {
    assert.equal(await read("read -r x; read -r x", lines, cold), 5);
    assert.equal(await read("cat >/dev/null", lines, cold), 9);
    assert.equal(await read(":", lines, cold), 0);
    assert.equal(await read("exec <&-; sleep 0.2", lines, cold), 0);
    assert.equal(await read("head -c 100000 >/dev/null", new Uint8Array(1_000_000), cold), 100_000);
  }
  assert.equal(await read("cat", new Uint8Array(0)), undefined);
});
