/** A prepared workload survives errors of the host, and saving that fails. */
import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { FileSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language, RunVmmRequestSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { withoutDescriptors } from "../test/descriptors.ts";
import { withPrepared } from "./fixtures_test.ts";
import { workloadKey } from "./prepared.ts";
import { workloadOf } from "./workload.ts";

const REQUEST = { workloadName: "w", language: Language.RUST, code: "fn main() {}" };
const LIMITS = {
  localImages: false,
  defaultMemory: 256,
  minMemory: 64,
  maxVcpus: 4,
  maxTime: 60_000,
};

const workload = () => workloadOf(create(RunVmmRequestSchema, REQUEST), LIMITS);

Deno.test("a prepared workload survives a process that has no descriptors left", () =>
  withPrepared(async (prepared, root) => {
    const built = [create(FileSchema, { path: "a", content: Uint8Array.of(1) })];
    await prepared.save(workload(), built);
    const error = await withoutDescriptors({
      imports: `import { create } from "@bufbuild/protobuf";
        import { RunVmmRequestSchema } from "@/proto/gen/vmmorchestrator/vmm_pb.ts";
        import { PreparedWorkloads } from "@/service/prepared.ts";
        import { workloadOf } from "@/service/workload.ts";`,
      prepare: `
        const prepared = new PreparedWorkloads(${JSON.stringify(root)});
        const request = create(RunVmmRequestSchema, ${JSON.stringify(REQUEST)});
        const workload = workloadOf(request, ${JSON.stringify(LIMITS)});
        if (await prepared.find(workload) === undefined) throw new Error("it is not there");`,
      attempt: "prepared.find(workload)",
      report: "String(result?.message)",
    });
    match(String(error), /too many open files/i);
    const found = await prepared.find(workload());
    deepEqual(found?.options?.built.map(({ path }) => path), ["a"]);
  }));

Deno.test("a prepared workload survives one that cannot be saved in its place", () =>
  withPrepared(async (prepared, root) => {
    await prepared.save(workload(), []);
    // A message that does not fit: its content is no bytes.
    const broken = create(FileSchema, { path: "a", content: "x" as unknown as Uint8Array });
    await rejects(prepared.save(workload(), [broken]));
    equal(await Deno.stat(join(root, workloadKey(workload()))).then(() => true), true);
  }));
