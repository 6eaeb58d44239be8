import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { parse } from "smol-toml";
import { collect, isHere, startAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

const EXAMPLES = new URL("../examples/", import.meta.url).pathname;

interface Example {
  language: string;
  build: { "source-code-path": string; release?: boolean };
  run?: { args?: string[]; env?: Record<string, string>; stdin?: string };
}

async function filesOf(root: string): Promise<{ path: string; content: Uint8Array }[]> {
  const files: { path: string; content: Uint8Array }[] = [];
  async function visit(directory: string): Promise<void> {
    for await (const { name, isDirectory } of Deno.readDir(directory)) {
      const path = join(directory, name);
      if (isDirectory && name !== "__pycache__" && name !== "target") await visit(path);
      else if (!isDirectory) {
        files.push({ path: relative(root, path), content: await Deno.readFile(path) });
      }
    }
  }
  await visit(root);
  return files;
}

/** The same program, built and run by hand. */
const BY_HAND: Record<string, string> = {
  bash: "bash main.sh",
  deno: "deno run --quiet main.ts",
  fibonacci: 'rustc -O -o "$TMP/fibonacci" fibonacci.rs && "$TMP/fibonacci"',
  node: "node lib/main.js",
  python: "python3 fibonacci.py",
  "python-package": "python3 -B main.py",
  rust: 'cargo run --quiet --offline --target-dir "$TMP" --',
};
const PROGRAM: Record<string, string> = {
  python: "python3",
  node: "node",
  rust: "cargo",
  deno: "deno",
  bash: "bash",
};

for (const { name } of Deno.readDirSync(EXAMPLES)) {
  Deno.test(`the example ${name} prints what it prints without the agent`, async () => {
    const directory = join(EXAMPLES, name);
    const text = await Deno.readTextFile(join(directory, "config.toml"));
    const example = parse(text) as unknown as Example;
    if (!await isHere(PROGRAM[example.language]!)) return;
    const source = join(directory, example.build["source-code-path"]);
    const isDirectory = (await Deno.stat(source)).isDirectory;
    const files = isDirectory
      ? await filesOf(source)
      : [{ path: relative(directory, source), content: await Deno.readFile(source) }];
    const stdin = example.run?.stdin === undefined
      ? new Uint8Array()
      : await Deno.readFile(join(directory, example.run.stdin));
    await using agent = await startAgent();
    const result = await collect(agent.client.execute({
      workloadName: name,
      language: example.language,
      action: Action.PREPARE_AND_RUN,
      options: {
        files,
        stdin,
        args: example.run?.args ?? [],
        env: example.run?.env ?? {},
        release: example.build.release ?? false,
        rawOutput: true,
      },
    }));
    assert.equal(result.last.stage, Stage.DONE, result.building + result.err);

    const scratch = await Deno.makeTempDir();
    try {
      const child = new Deno.Command("bash", {
        args: ["-c", `${BY_HAND[name]} "$@"`, "bash", ...example.run?.args ?? []],
        cwd: directory,
        env: { TMP: scratch, ...example.run?.env },
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const writer = child.stdin.getWriter();
      const written = writer.write(stdin).then(() => writer.close());
      const expected = await child.output();
      await written;
      assert(expected.stdout.length > 0, new TextDecoder().decode(expected.stderr));
      assert.deepEqual(result.stdout, new Uint8Array(expected.stdout));
      assert.equal(result.last.exitCode, expected.code);
    } finally {
      await Deno.remove(scratch, { recursive: true });
    }
  });
}
