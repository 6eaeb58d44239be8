import assert from "node:assert/strict";
import { isHere, run, startAgent, type TestAgent } from "./harness_test.ts";
import { create } from "@bufbuild/protobuf";
import {
  ExecuteRequest_Action as Action,
  ExecuteRequestSchema,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { checkRequest } from "../workload/request.ts";
import { interpreterNeeds } from "../workload/interpreter_needs.ts";

/** One program for each language: it tells all that it can see of how it was started. */
const PROGRAMS: Record<string, { program: string; code: string }> = {
  python: {
    program: "python3",
    code: `import os, sys
print(sys.argv[1:], os.getcwd().split("/")[-2:], os.environ.get("X"), __name__)
print(os.path.basename(__file__), sys.path[0] == os.path.dirname(__file__))
print(sorted(name for name in os.environ if name not in ("_", "OLDPWD")))
print(repr(sys.stdin.read()), sorted(globals()))
def broken():
    raise ValueError("no")
try:
    broken()
except ValueError as error:
    import traceback
    print([(frame.name, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)])
    print([frame.name for frame in traceback.extract_stack()])
sys.exit(5)`,
  },
  node: {
    program: "node",
    code: `const path = require("path");
console.log(process.argv.slice(2), process.cwd().split("/").slice(-2), process.env.X);
console.log(path.basename(process.argv[1]), require.main === module, process.execArgv);
console.log(Object.keys(process.env).filter((name) => name !== "_").sort());
console.log(JSON.stringify(require("fs").readFileSync(0, "utf8")));
const { Worker } = require("worker_threads");
new Worker("console.log('worker')", { eval: true }).on("exit", () => process.exit(5));`,
  },
  deno: {
    program: "deno",
    code: `console.log(Deno.args, Deno.cwd().split("/").slice(-2), Deno.env.get("X"));
console.log(import.meta.main, import.meta.url === Deno.mainModule);
console.log(Object.keys(Deno.env.toObject()).sort());
const text: string = await new Response(Deno.stdin.readable).text();
console.log(JSON.stringify(text));
Deno.exit(5);`,
  },
  bash: {
    program: "bash",
    code: `echo "$#: $*" "\${PWD##*/project}" "$X" "\${0##*/}" "\${BASH_SOURCE[0]##*/}" "$LINENO"
env | cut -d= -f1 | grep -v '^_$' | sort
set | cut -d= -f1 | grep -E '^(cloudlet|REPLY)'
cat | od -c
f() { echo "\${FUNCNAME[*]}"; }
f
exit 5`,
  },
};

async function runBoth(
  agent: TestAgent,
  language: string,
  code: string,
  options: Parameters<typeof run>[3] = {},
) {
  const cold = await run(agent, language, code, options);
  const request = create(ExecuteRequestSchema, {
    language,
    code,
    options,
    action: Action.PREPARE_AND_RUN,
  });
  const { entryPoint, files } = interpreterNeeds(checkRequest(request))!;
  assert((await agent.client.warm({ language, entryPoint, files: [...files] })).warm);
  assert.equal(agent.children().length, 1, "the interpreter is idle");
  const warm = await run(agent, language, code, options);
  assert.deepEqual(agent.children(), [], "it is the one that ran");
  return { cold, warm };
}

for (const [language, { program, code }] of Object.entries(PROGRAMS)) {
  Deno.test(`a ${language} program cannot tell that its interpreter was idle before`, async () => {
    if (!await isHere(program)) return;
    await using agent = await startAgent();
    const { cold, warm } = await runBoth(agent, language, code, {
      args: ["a b", "", "ü\n"],
      env: { X: "1=2 ä", Y: "" },
      stdin: new TextEncoder().encode("in\0put ü"),
      files: [{ path: "sub/file" }],
      workingDirectory: "sub",
    });
    assert.equal(warm.err, cold.err);
    assert.equal(warm.out, cold.out);
    assert(warm.out.length > 0);
    assert.equal(warm.last.exitCode, 5);
    assert.equal(warm.last.stage, Stage.DONE);
    const plain = await runBoth(agent, language, "");
    assert.equal(plain.warm.last.exitCode, 0, plain.warm.err);
    assert.equal(plain.warm.out + plain.warm.err, "");
  });
}

for (
  const [language, program, path, code] of [
    ["python", "python3", "sub/näme.py", "def f():\n  raise StopIteration(1)\nf()\n"],
    ["python", "python3", "exit.py", "import sys, sub.m\nsys.exit('no')\n"],
    ["python", "python3", "odd name.py", "print('a')\nprint(\n"],
    [
      "python",
      "python3",
      "stack.py",
      "import sys\nprint(sys._getframe().f_back, sys.path[0])\n1/0\n",
    ],
    [
      "python",
      "python3",
      "argv.py",
      "import sys\nprint(sys.argv, sys.orig_argv, __loader__.path)\n",
    ],
    [
      "python",
      "python3",
      "audit.py",
      "import sys\nsys.addaudithook(lambda event, _: event.startswith('ctypes') and print(event))\n" +
      "print('on')\n",
    ],
    [
      "python",
      "python3",
      "end.py",
      "import atexit\natexit.register(print, 'end')\nx = [object() for _ in range(10**5)]\ndel x\n" +
      "print(len([0] * 10**5))\n",
    ],
    [
      "node",
      "node",
      "end.js",
      "process.on('exit', (code) => { console.log(new Error('exit ' + code).stack); process.exitCode = 7; });\n" +
      "process.on('exit', () => {});\n" +
      "process.on('beforeExit', () => console.log(new Error('x').stack));\n" +
      "process.emit('exit', 0); console.log(Object.getOwnPropertyNames(process).includes('emit'));",
    ],
    [
      "node",
      "node",
      "late.js",
      "process.once('beforeExit', () => setTimeout(() => { throw new Error('late'); }, 1));" +
      "process.on('exit', console.log)",
    ],
    [
      "node",
      "node",
      "stub.js",
      "const { reallyExit } = process;\n" +
      "process.reallyExit = (code) => { console.log('really', code); reallyExit.call(process, 3); };\n" +
      "Object.create(process).emit = null; process.on('exit', console.log); process.exit(0);",
    ],
    ["node", "node", "sub/any.js", "console.log(process.argv, __filename); null.x"],
    ["node", "node", "module.mjs", "console.log(import.meta.url); throw new Error('no')"],
    [
      "node",
      "node",
      "stack.js",
      "console.log(new Error('x').stack, require('module').runMain.name)",
    ],
    [
      "deno",
      "deno",
      "end.ts",
      "process.on('exit', (code) => { console.log(new Error('exit ' + code).stack); Deno.exitCode = 7; });\n" +
      "process.on('exit', () => {});\n" +
      "addEventListener('unload', () => console.log('unload'));\n" +
      "process.on('beforeExit', () => console.log(new Error('x').stack));\n" +
      "process.emit('exit', 1); console.log(Object.getOwnPropertyNames(process).includes('emit'));",
    ],
    [
      "deno",
      "deno",
      "stub.ts",
      "Deno.exit = () => { throw new Error('not at the end'); }; console.log(1)",
    ],
    ["deno", "deno", "exit.ts", "process.on('exit', console.log); process.exit(4);"],
    [
      "deno",
      "deno",
      "sub/any.ts",
      "console.log(import.meta, Deno.mainModule); import n from 'named'; console.log(n); null.x",
    ],
    ["deno", "deno", "odd name.mts", "export {}; console.log(new Error('x').stack)"],
    ["bash", "bash", "sub/any.sh", 'echo "$0 $PWD $LINENO"; caller; nothing here'],
  ] as const
) {
  Deno.test(`an idle ${language} interpreter runs ${path} as if it had started with it`, async () => {
    if (!await isHere(program)) return;
    await using agent = await startAgent();
    const { cold, warm } = await runBoth(agent, language, "", {
      files: [
        { path, content: new TextEncoder().encode(code) },
        { path: "sub/m.py", content: new TextEncoder().encode("print(__name__)") },
        { path: "sub/m.ts", content: new TextEncoder().encode("export default 'imported';") },
        {
          path: "deno.json",
          content: new TextEncoder().encode('{ "imports": { "named": "./sub/m.ts" } }'),
        },
      ],
      entryPoint: path,
      args: ["x"],
    });
    // the workload's directory has a number, and that of the hook is one level up
    const plain = (text: string) => text.replaceAll(/\/\d+(\/workload)?\/project\b/g, "/N/project");
    assert.equal(plain(warm.out), plain(cold.out));
    assert.equal(plain(warm.err), plain(cold.err));
    assert.equal(warm.last.exitCode, cold.last.exitCode);
    assert(cold.out + cold.err !== "");
  });
}

Deno.test("what an idle interpreter must know is the main file and its configuration", () => {
  const needs = (language: string, files: string[], entryPoint = "") => {
    const options = { files: files.map((path) => ({ path })), entryPoint };
    const found = interpreterNeeds(
      checkRequest(create(ExecuteRequestSchema, { language, options })),
    );
    return found && [found.entryPoint, ...found.files.map(({ path }) => path)];
  };
  assert.deepEqual(needs("deno", ["main.ts", "a.ts"]), ["main.ts"]);
  assert.deepEqual(needs("deno", ["hello.ts"]), ["hello.ts"]);
  assert.deepEqual(needs("deno", ["a.ts", "b/c.ts", "b/deno.jsonc", "tsconfig.json"], "b/c.ts"), [
    "b/c.ts",
    "b/deno.jsonc",
    "tsconfig.json",
  ]);
  assert.deepEqual(needs("bash", ["x.sh", "deno.json"]), ["x.sh"]);
  assert.deepEqual(needs("python", ["hello.py", "x.py"], "x.py"), ["main.py"], "it runs any file");
  assert.equal(needs("deno", ["a.ts", "b.ts"]), undefined, "the agent says that it is not clear");
  assert.equal(needs("rust", ["main.rs"]), undefined);
  for (const text of ['{ "importMap" : "x.json" }', '{\n// vendored\n"vendor":true}']) {
    const content = new TextEncoder().encode(text);
    const options = { files: [{ path: "main.ts" }, { path: "deno.json", content }] };
    const job = checkRequest(create(ExecuteRequestSchema, { language: "deno", options }));
    assert.equal(interpreterNeeds(job), undefined, "it reads more than its configuration");
  }
  const withLink = (language: string, entryPoint: string, path: string, target: string) => {
    const files = [{ path: "src/main.ts" }, { path: "main.py" }, { path, target }];
    const options = { files, entryPoint };
    return interpreterNeeds(checkRequest(create(ExecuteRequestSchema, { language, options })));
  };
  assert.equal(withLink("deno", "src/main.ts", "current", "src")?.entryPoint, "src/main.ts");
  assert.equal(withLink("python", "main.py", "current", "src")?.entryPoint, "main.py");
  for (
    const [language, entryPoint, path, target] of [
      ["deno", "current/main.ts", "current", "src"], // deno.json is looked for where the link leads
      ["deno", "src/main.ts", "deno.json", "config/deno.json"], // which is not there yet
      ["python", "cli.py", "cli.py", "main.py"], // sys.path[0] is where the link leads
    ] as const
  ) assert.equal(withLink(language, entryPoint, path, target), undefined, path);
});

Deno.test("an interpreter that is idle for another program is ended", async () => {
  await using agent = await startAgent();
  const names = ["one.sh", "two.sh", "two.sh"];
  const answers = await Promise.all(
    names.map((entryPoint) => agent.client.warm({ language: "bash", entryPoint })),
  );
  assert(answers.every(({ warm }) => warm));
  assert.equal(agent.children().length, 1);
  const files = [{ path: "two.sh", content: new TextEncoder().encode("echo $0") }];
  const two = await run(agent, "bash", "", { files });
  assert.match(two.out, /two\.sh$/m);
  assert.deepEqual(agent.children(), []);
  await assert.rejects(agent.client.warm({ language: "bash", entryPoint: "../two.sh" }), /\.\./);
});

Deno.test("an idle interpreter is left alone by programs that it cannot run", async () => {
  await using agent = await startAgent();
  assert(!(await agent.client.warm({ language: "rust" })).warm);
  for (let i = 0; i < 2; i++) assert((await agent.client.warm({ language: "bash" })).warm);
  const waiting = agent.children();
  assert.equal(waiting.length, 1);
  const other = await run(agent, "bash", "", {
    files: [{ path: "other.sh", content: new TextEncoder().encode("echo other") }],
    entryPoint: "other.sh",
  });
  assert.equal(other.out, "other\n", "");
  const environment = await run(agent, "bash", "echo $LANG", { env: { LANG: "C" } });
  assert.equal(environment.out, "C\n");
  assert.deepEqual(agent.children(), waiting, "it also outlives what ends with a program");
  assert.equal(
    (await run(agent, "bash", "echo $1", { args: ["x".repeat(100_000)] })).out.length,
    100_001,
  );
  assert.deepEqual(agent.children(), []);
});
