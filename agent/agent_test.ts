import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { collect, isHere, run, startAgent, type TestAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

const encoder = new TextEncoder();

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A test with an agent of its own. */
function withAgent(name: string, body: (agent: TestAgent) => Promise<void>): void {
  Deno.test(name, async () => {
    await using agent = await startAgent();
    await body(agent);
  });
}

async function rejectsWith(code: Code, pattern: RegExp, work: Promise<unknown>): Promise<void> {
  await assert.rejects(work, (error) => {
    assert(error instanceof ConnectError, String(error));
    assert.equal(Code[error.code], Code[code]);
    assert.match(error.rawMessage, pattern);
    return true;
  });
}

withAgent("a program's output, exit code and usage come through", async (agent) => {
  const result = await run(agent, "bash", "echo out; echo err >&2; exit 3");
  assert.equal(result.out, "out\n");
  assert.equal(result.err, "err\n");
  assert.equal(result.last.stage, Stage.DONE);
  assert.equal(result.last.exitCode, 3);
  assert.equal(result.last.outcome?.kind, Kind.EXITED);
  assert.match(result.responses[0]!.executionId, /^[\w-]{36}$/);
  const { wallTime, userTime } = result.last.usage!;
  assert(wallTime !== undefined && wallTime.nanos > 0 && userTime !== undefined);
});

const HELLO = {
  python: 'import sys\nprint("hi", *sys.argv[1:])',
  node: 'console.log("hi", ...process.argv.slice(2))',
  deno: 'const who: string[] = Deno.args;\nif (import.meta.main) console.log("hi", ...who)',
  bash: 'echo hi "$@"',
  rust: `fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("hi {}", args.join(" "));
}`,
} as const;
const PROGRAM = { python: "python3", node: "node", deno: "deno", bash: "bash", rust: "rustc" };

withAgent("each language runs a program with arguments", async (agent) => {
  for (const [language, code] of Object.entries(HELLO)) {
    if (!await isHere(PROGRAM[language as keyof typeof PROGRAM])) continue;
    const result = await run(agent, language, code, { args: ["Ada", "b c"] });
    assert.equal(result.out, "hi Ada b c\n", language + result.err + result.building);
    assert.equal(result.last.exitCode, 0);
  }
});

withAgent("a compile error is told while building and ends as failed", async (agent) => {
  if (!await isHere("rustc")) return;
  const result = await run(agent, "rust", 'fn main() { let x: u32 = "no"; }');
  assert.match(result.building, /mismatched types/);
  assert.equal(result.out, "");
  assert.equal(result.last.stage, Stage.FAILED);
  assert.equal(result.last.exitCode, 1);
  assert.equal(result.last.outcome?.kind, Kind.BUILD_FAILED);
});

withAgent("an empty source is run for what it is", async (agent) => {
  const bash = await run(agent, "bash", "");
  assert.equal(bash.last.stage, Stage.DONE);
  assert.equal(bash.last.exitCode, 0);
  if (!await isHere("rustc")) return;
  const rust = await run(agent, "rust", "");
  assert.equal(rust.last.outcome?.kind, Kind.BUILD_FAILED);
  assert.match(rust.building, /main/);
});

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

withAgent("environment, working directory and files are as asked", async (agent) => {
  const result = await run(agent, "bash", "", {
    entryPoint: "bin/start.sh",
    files: [
      { path: "bin/start.sh", content: encoder.encode('cat data.txt; echo "$GREETING"; ./tool') },
      { path: "data/data.txt", content: encoder.encode("datum\n") },
      { path: "data/tool", content: encoder.encode("#!/bin/bash\necho tool\n"), mode: 0o755 },
    ],
    workingDirectory: "data",
    env: { GREETING: "grüß" },
  });
  assert.equal(result.err, "");
  assert.equal(result.out, "datum\ngrüß\ntool\n");
  const bare = await run(agent, "bash", "/usr/bin/env");
  const names = bare.out.trim().split("\n").map((line) => line.split("=")[0]).sort();
  assert.deepEqual(names.filter((name) => !["PWD", "SHLVL", "_", "OLDPWD"].includes(name!)), [
    "HOME",
    "LANG",
    "PATH",
  ]);
});

withAgent("files that the program made come back", async (agent) => {
  const result = await run(
    agent,
    "bash",
    `mkdir -p out/sub; head -c 600000 /dev/zero > out/zeros; printf x > out/sub/x; chmod 700 out/sub/x
     : > out/empty; ln -s /etc/passwd out/link; mkfifo out/fifo`,
    { outputs: ["out", "never-made"] },
  );
  assert.equal(result.err, "");
  const sizes = new Map<string, number>();
  for (const { output } of result.responses) {
    if (output === undefined) continue;
    assert.equal(Number(output.offset), sizes.get(output.path) ?? 0);
    sizes.set(output.path, Number(output.offset) + output.content.length);
    if (output.path === "out/sub/x") assert.equal(output.mode, 0o700);
  }
  assert.deepEqual(Object.fromEntries(sizes), {
    "out/empty": 0,
    "out/sub/x": 1,
    "out/zeros": 600000,
  });
  assert.equal(result.last.stage, Stage.DONE);
});

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

withAgent("a signal that ends the program is told", async (agent) => {
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
  while (agent.children().length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
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
  while (agent.children().length > 0 || (await agent.client.info({})).running > 0) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // and its files are gone
  while ([...Deno.readDirSync(agent.root)].length > 0) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
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
  while (agent.children().length > 0) await new Promise((resolve) => setTimeout(resolve, 20));
});

withAgent("a program that closes its output runs on to its end", async (agent) => {
  const result = await run(agent, "bash", "echo a; exec >&- 2>&-; sleep 0.2; exit 4");
  assert.equal(result.out, "a\n");
  assert.equal(result.last.exitCode, 4);
  assert.equal((await run(agent, "bash", ":")).out, "");
});

withAgent("a program that cannot be started is told as such", async (agent) => {
  const result = await run(agent, "bash", "echo x", { workingDirectory: "none" });
  assert.equal(result.last.stage, Stage.FAILED);
  assert.equal(result.last.outcome?.kind, Kind.NOT_STARTED);
  assert.match(result.last.outcome!.message, /No such file/);
  assert.equal(result.last.exitCode, undefined);
});

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

withAgent("a source of 10 MB is run", async (agent) => {
  const code = `: ${"x".repeat(10 * 1024 * 1024)}\necho long`;
  assert.equal((await run(agent, "bash", code)).out, "long\n");
});

withAgent("a full disk is the program's error", async (agent) => {
  const result = await run(agent, "bash", "echo x > /dev/full || exit 9");
  assert.match(result.err, /No space left/);
  assert.equal(result.last.exitCode, 9);
});

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
    while ([...Deno.readDirSync(agent.root)].length > 0) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await runSome(3);
  const before = fds(); // with what Deno opens once and keeps
  await runSome(30);
  assert.deepEqual(agent.children(), []);
  // a few are of connections that close a moment after the client's end
  assert(fds() < before + 10, `${fds()} file descriptors after 30 runs, ${before} before`);
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
