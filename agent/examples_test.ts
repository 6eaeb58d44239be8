import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { examples, runByHand, runsHere, stdinOf } from "../test/examples.ts";
import { collect, startAgent } from "./harness_test.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";

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

for (const example of examples()) {
  const { name, directory, language, build, run } = example;
  Deno.test(`the example ${name} prints what it prints without the agent`, async () => {
    if (!await runsHere(example)) return;
    const source = join(directory, build["source-code-path"]);
    const isDirectory = (await Deno.stat(source)).isDirectory;
    const files = isDirectory
      ? await filesOf(source)
      : [{ path: relative(directory, source), content: await Deno.readFile(source) }];
    await using agent = await startAgent();
    const result = await collect(agent.client.execute({
      workloadName: name,
      language,
      action: Action.PREPARE_AND_RUN,
      options: {
        files,
        stdin: await stdinOf(example),
        args: [...run.args ?? []],
        env: run.env ?? {},
        release: build.release ?? false,
        rawOutput: true,
      },
    }));
    assert.equal(result.last.stage, Stage.DONE, result.building + result.err);

    const expected = await runByHand(example);
    assert(expected.stdout.length > 0, new TextDecoder().decode(expected.stderr));
    assert.deepEqual(result.stdout, new Uint8Array(expected.stdout));
    assert.equal(result.last.exitCode, expected.code);
  });
}
