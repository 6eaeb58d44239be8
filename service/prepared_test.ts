import { deepEqual, equal } from "node:assert/strict";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import {
  ExecuteRequest_Action as Action,
  FileSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language, RunVmmRequestSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { withPrepared } from "./fixtures_test.ts";
import { workloadKey } from "./prepared.ts";
import { type Workload, workloadOf } from "./workload.ts";

const LIMITS = {
  localImages: false,
  defaultMemory: 256,
  minMemory: 64,
  maxVcpus: 4,
  maxTime: 60_000,
};
const utf8 = new TextEncoder();

function workload(change: Parameters<typeof create<typeof RunVmmRequestSchema>>[1] = {}): Workload {
  return workloadOf(
    create(RunVmmRequestSchema, {
      workloadName: "w",
      language: Language.RUST,
      code: "fn main() {}",
      action: Action.RUN,
      ...change,
    }),
    LIMITS,
  );
}

const piece = (path: string, text: string, offset = 0) =>
  create(FileSchema, { path, content: utf8.encode(text), mode: 0o755, offset: BigInt(offset) });

Deno.test("a workload's key tells what decides the build, and nothing else", () => {
  const same = workloadKey(workload());
  equal(workloadKey(workload({ workloadName: "x", memoryMib: 512 })), same);
  equal(
    workloadKey(workload({ options: { args: ["a"], env: { A: "1" }, stdin: utf8.encode("x") } })),
    same,
  );
  const others = [
    { code: "fn main() { }" },
    { options: { release: true } },
    { options: { entryPoint: "a.rs" } },
    { options: { buildEnv: { RUSTFLAGS: "-g" } } },
    { packages: ["libfoo"] },
    { image: { from: "alpine:3" } },
    { image: { files: [{ path: "etc/a", content: utf8.encode("x") }] } },
    { image: { run: ["true"] } },
    { language: Language.BASH },
    { options: { files: [{ path: "a", content: utf8.encode("x") }] } },
    { options: { files: [{ path: "a", content: utf8.encode("y") }] } },
    { options: { files: [{ path: "a", content: utf8.encode("y"), mode: 0o755 }] } },
    { options: { files: [{ path: "b", content: utf8.encode("y") }] } },
    { options: { files: [{ path: "b", content: utf8.encode("y"), mode: 0o700 }] } },
    { options: { files: [{ path: "b" }] } },
    { options: { files: [{ path: "b", target: "y" }] } },
    { options: { files: [{ path: "b", target: "z" }] } },
    { options: { files: [{ path: "b", directory: true }] } },
    { image: { files: [{ path: "etc/a", target: "x" }] } },
    { image: { files: [{ path: "etc/a", directory: true }] } },
  ].map((change) => workloadKey(workload(change)));
  equal(new Set([same, ...others]).size, others.length + 1);
});

Deno.test("what is saved is found by its files and by its name; the newest has the name", () =>
  withPrepared(async (prepared) => {
    equal(await prepared.find(workload()), undefined);
    const command = { language: Language.COMMAND, code: "", image: { from: "alpine:3" } };
    equal(await prepared.find(workload(command)), undefined); // it needs no files
    await prepared.save(workload(), [piece("workload", "1")]);
    await prepared.save(workload({ code: "2" }), [piece("workload", "2")]);
    const contents = async (change: Parameters<typeof workload>[0]) => {
      const found = await prepared.find(workload(change));
      return found?.options?.built.map(({ content }) => new TextDecoder().decode(content));
    };
    deepEqual(await contents({}), ["1"]);
    deepEqual(await contents({ code: "2" }), ["2"]);
    deepEqual(await contents({ code: "" }), ["2"]);
    const byName = await prepared.find(workload({ code: "", options: { args: ["a"] } }));
    deepEqual([byName?.code, byName?.options?.args], ["2", ["a"]]);
    await prepared.save(workload(), [piece("workload", "3")]);
    deepEqual(await contents({}), ["3"]);
  }));

Deno.test("a damaged entry is as good as none, and is removed", () =>
  withPrepared(async (prepared, root) => {
    await prepared.save(workload(), [piece("workload", "1")]);
    const directory = join(root, workloadKey(workload()));
    await Deno.writeTextFile(join(directory, "workload"), "no message");
    equal(await prepared.find(workload()), undefined);
    equal(await Deno.stat(directory).catch(() => undefined), undefined);
  }));

Deno.test("only as many are kept as were used last", () =>
  withPrepared(async (prepared, root) => {
    for (let i = 0; i < 70; i++) {
      await prepared.save(workload({ code: `${i}` }), []);
      const time = new Date(1_700_000_000_000 + i * 1000);
      await Deno.utime(join(root, workloadKey(workload({ code: `${i}` }))), time, time);
    }
    equal(await prepared.find(workload({ code: "0" })), undefined);
    equal((await prepared.find(workload({ code: "69" })))?.code, "69");
    const kept = [...Deno.readDirSync(root)].filter(({ isDirectory }) => isDirectory);
    equal(kept.length, 64);
  }));
