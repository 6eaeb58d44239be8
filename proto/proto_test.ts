import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { type DescMessage, ScalarType } from "@bufbuild/protobuf";

const here = import.meta.dirname!;
const BUF = "npm:@bufbuild/buf@^1.75.0/buf";

async function buf(...args: string[]): Promise<{ success: boolean; text: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", BUF, ...args],
    cwd: here,
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  return { success, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** Whether the tools run here; they come from the npm registry, or from Deno's cache. */
async function toolsAreHere(): Promise<boolean> {
  const { success, text } = await buf("--version");
  if (!success) console.log(`skipped: buf does not run here: ${text.trim().split("\n")[0]}`);
  return success;
}

async function filesBelow(root: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  async function visit(directory: string): Promise<void> {
    for await (const entry of Deno.readDir(directory)) {
      const path = join(directory, entry.name);
      if (entry.isDirectory) await visit(path);
      else files.set(relative(root, path), await Deno.readTextFile(path));
    }
  }
  await visit(root);
  return files;
}

Deno.test("the .proto files pass buf lint and are formatted", async () => {
  if (!await toolsAreHere()) return;
  for (const args of [["lint"], ["format", "--diff", "--exit-code"]]) {
    const { success, text } = await buf(...args);
    assert(success, text);
  }
});

Deno.test("generating again gives the files that are checked in", async () => {
  if (!await toolsAreHere()) return;
  const directory = await Deno.makeTempDir();
  try {
    const { success, text } = await buf("generate", "--output", directory);
    assert(success, text);
    assert.deepEqual(
      await filesBelow(join(directory, "gen")),
      await filesBelow(join(here, "gen")),
      "run `deno task generate`",
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("fields of the first cloudlet keep their numbers and types", async () => {
  const { ExecuteRequestSchema, ExecuteResponseSchema, ExecuteRequest_ActionSchema } = await import(
    "./gen/cloudlet/agent/agent_pb.ts"
  );
  const { RunVmmRequestSchema, ShutdownVmResponseSchema, VmmService } = await import(
    "./gen/vmmorchestrator/vmm_pb.ts"
  );
  const original = (schema: DescMessage) =>
    schema.fields.filter(({ number }) => number < 16).map((field) => {
      const type = field.fieldKind === "scalar" ? ScalarType[field.scalar] : field.fieldKind;
      return `${field.name}=${field.number} ${type}`;
    });
  assert.deepEqual(original(ExecuteRequestSchema), [
    "workload_name=1 STRING",
    "language=2 STRING",
    "action=3 enum",
    "code=4 STRING",
    "config_str=5 STRING",
  ]);
  assert.deepEqual(original(ExecuteResponseSchema), [
    "stage=1 enum",
    "stdout=2 STRING",
    "stderr=3 STRING",
    "exit_code=4 INT32",
  ]);
  assert.deepEqual(original(RunVmmRequestSchema), [
    "workload_name=1 STRING",
    "language=2 enum",
    "code=3 STRING",
    "log_level=4 enum",
  ]);
  assert.deepEqual(original(ShutdownVmResponseSchema), ["success=1 BOOL"]);
  assert.deepEqual(
    ExecuteRequest_ActionSchema.values.map((value) => `${value.name}=${value.number}`),
    ["RUN=0", "PREPARE=1", "PREPARE_AND_RUN=2"],
  );
  assert.equal(VmmService.typeName, "vmmorchestrator.VmmService");
  assert.equal(VmmService.method.run.name, "Run");
});
