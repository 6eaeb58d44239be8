/** Standard input and output. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { collect, rejectsWith, run, withAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

const encoder = new TextEncoder();

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

withAgent("bytes that are not UTF-8 are not mangled where they are read raw", async (agent) => {
  const every = 'for i in {0..255}; do printf "\\\\x$(printf %x $i)"; done';
  const raw = await run(agent, "bash", `${every}; { ${every}; } >&2`, { rawOutput: true });
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  assert.deepEqual(raw.stdout, bytes);
  assert.deepEqual(raw.stderr, bytes);
  assert(raw.responses.every(({ stdout, stderr }) => stdout === undefined && stderr === undefined));
});

withAgent("a character cut in two is whole in text output", async (agent) => {
  const result = await run(
    agent,
    "bash",
    String.raw`printf '\xef\xbb\xbf'; printf '\xe2'; sleep 0.1; printf '\x82'; sleep 0.1
               printf '\xac'; sleep 0.1; printf '\xf0\x9f'`,
  );
  assert.equal(result.out.codePointAt(0), 0x20ac, "the reader's decoder takes the BOM away");
  assert.equal(result.out, "€\ufffd");
  const texts = result.responses.map(({ stdout }) => stdout).filter((text) => text !== undefined);
  assert.deepEqual(texts, ["\ufeff", "€", "\ufffd"]);
});

withAgent("each byte is seen when it is written", async (agent) => {
  const stream = agent.client.execute({
    language: "bash",
    code: 'while IFS= read -r -n 1 c; do printf "$c"; done',
    action: Action.PREPARE_AND_RUN,
    options: { executionId: "echo", stdinStream: true },
  });
  // The next byte is sent only when the one before it has come back.
  const { readable, writable } = new TransformStream<string, string>();
  const writer = writable.getWriter();
  const input = agent.client.input((async function* () {
    yield { executionId: "echo" };
    for await (const text of readable) yield { data: encoder.encode(text) };
  })());
  const expected = [..."one byte at a time"];
  const seen: string[] = [];
  for await (const { stage, stdout } of stream) {
    if (stdout !== undefined) seen.push(stdout);
    if (stage !== Stage.RUNNING) continue;
    if (seen.length < expected.length) writer.write(expected[seen.length]!);
    else writer.close();
  }
  assert.deepEqual(seen, expected);
  assert.equal(Number((await input).acceptedBytes), expected.length);
});

withAgent("100 MB come through intact, while neither side's memory grows", async (agent) => {
  await run(agent, "bash", "head -c 20000000 /dev/zero"); // what a first time takes
  const before = agent.status("VmRSS");
  Deno.writeTextFileSync(`/proc/${agent.pid}/clear_refs`, "5"); // the peak is what is from now on
  const hash = createHash("sha256");
  let size = 0;
  let waited = false;
  const stream = agent.client.execute({
    language: "bash",
    code: "seq 1 20000000 | head -c 100000000",
    action: Action.PREPARE_AND_RUN,
    options: { rawOutput: true },
  });
  for await (const { stdoutBytes, stage, exitCode } of stream) {
    if (stage === Stage.DONE) assert.equal(exitCode, 0);
    if (stdoutBytes === undefined) continue;
    hash.update(stdoutBytes);
    size += stdoutBytes.length;
    if (size > 1_000_000 && !waited) { // let the program run into the full pipe
      waited = true;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
  assert.equal(size, 100_000_000);
  const expected = await new Deno.Command("bash", {
    args: ["-c", "seq 1 20000000 | head -c 100000000 | sha256sum"],
  }).output();
  assert.equal(hash.digest("hex"), new TextDecoder().decode(expected.stdout).slice(0, 64));
  const grown = agent.status("VmHWM") - before;
  console.log(`agent: ${before} KiB before, at most ${grown} KiB more`);
  assert(grown < 64 * 1024, `the agent's memory grew by ${grown} KiB`);
});

withAgent("50 MB of input come back from cat", async (agent) => {
  const data = new Uint8Array(50_000_000);
  for (let i = 0; i < data.length; i++) data[i] = (i * 31 + (i >> 8)) & 0xff;
  const result = collect(agent.client.execute({
    language: "bash",
    code: "exec cat",
    action: Action.PREPARE_AND_RUN,
    options: { executionId: "cat", stdinStream: true, rawOutput: true, stdin: data.slice(0, 10) },
  }));
  while ((await agent.client.info({})).running === 0) { /* until it is there */ }
  const taken = await agent.client.input((async function* () {
    yield { executionId: "cat" };
    for (let i = 10; i < data.length; i += 100_000) {
      yield { data: data.subarray(i, Math.min(i + 100_000, data.length)) };
    }
  })());
  assert.equal(Number(taken.acceptedBytes), data.length - 10);
  const { stdout, last } = await result;
  assert.equal(last.exitCode, 0);
  assert.equal(sha256(stdout), sha256(data));
});

withAgent("input that a program does not want is no error", async (agent) => {
  const short = await run(agent, "bash", "exec <&-; echo closed", {
    stdin: new Uint8Array(1_000_000),
  });
  assert.equal(short.out, "closed\n");
  assert.equal(short.last.exitCode, 0);
  const lines = await run(agent, "bash", 'read -r x; echo "$x"; read -r y; echo "$y$?"', {
    stdin: encoder.encode("one\ntwo"),
  });
  assert.equal(lines.out, "one\ntwo1\n");
  assert.equal((await run(agent, "bash", "cat; echo end")).out, "end\n");
  await rejectsWith(
    Code.NotFound,
    /there is none/,
    agent.client.input((async function* () {
      yield { executionId: "none", data: encoder.encode("x") };
    })()),
  );
});
