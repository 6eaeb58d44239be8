import assert from "node:assert/strict";
import { Code } from "@connectrpc/connect";
import { isHere, rejectsWith, run, withAgent } from "./harness_test.ts";
import {
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

const encoder = new TextEncoder();

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

withAgent("a compile error is reported while building and ends as failed", async (agent) => {
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

withAgent("links, empty directories and executable bits are as asked", async (agent) => {
  const look = `
    readlink current node_modules/lib gone loop; ls -d var/empty; ls -A var/empty
    cat current/data.txt node_modules/lib/data.txt; current/tool; [ -x plain ] || echo plain`;
  const result = await run(agent, "bash", look, {
    files: [
      { path: "current", target: "releases/2" }, // before what it leads to
      { path: "node_modules/lib", target: "../releases/2" },
      { path: "gone", target: "nowhere" },
      { path: "loop", target: "loop" },
      { path: "var/empty", directory: true },
      { path: "plain" },
      { path: "releases/2/data.txt", content: encoder.encode("datum\n") },
      { path: "releases/2/tool", content: encoder.encode("#!/bin/sh\necho tool\n"), mode: 0o755 },
    ],
  });
  assert.equal(result.err, "");
  assert.equal(
    result.out,
    "releases/2\n../releases/2\nnowhere\nloop\nvar/empty\ndatum\ndatum\ntool\nplain\n",
  );
});

withAgent("an entry point may be a link, or behind one", async (agent) => {
  const files = [
    { path: "bin/go.sh", target: "../src/main.sh" },
    { path: "current", target: "src" },
    { path: "src/main.sh", content: encoder.encode('echo "$0" | grep -o "[^/]*/[^/]*$"') },
  ];
  for (const entryPoint of ["bin/go.sh", "current/main.sh", "src/main.sh"]) {
    const { out, err } = await run(agent, "bash", "", { files, entryPoint });
    assert.deepEqual([out, err], [`${entryPoint}\n`, ""]);
  }
  const missing = run(agent, "bash", "", { files, entryPoint: "current/none.sh" });
  await rejectsWith(Code.InvalidArgument, /no such file/, missing);
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

withAgent("a source of 10 MB is run", async (agent) => {
  const code = `: ${"x".repeat(10 * 1024 * 1024)}\necho long`;
  assert.equal((await run(agent, "bash", code)).out, "long\n");
});

withAgent("a full disk is the program's error", async (agent) => {
  const result = await run(agent, "bash", "echo x > /dev/full || exit 9");
  assert.match(result.err, /No space left/);
  assert.equal(result.last.exitCode, 9);
});
