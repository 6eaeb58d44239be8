/** What clients of the server send, and what a server answers to ours. */
import { OWN_NETWORK } from "../../service/network.ts";
import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Keys, newKey } from "../../api/http/keys.ts";
import { readJson, readQuery } from "../../api/http/read.ts";
import { forkRequest, logsQuery, runRequest, runsQuery } from "../../api/schemas.ts";
import { eventData, eventStream } from "../../api/sse.ts";
import { toLogLevel, toRunVmmRequest } from "../../api/http/wire.ts";
import {
  LogLevel,
  type RunVmmRequest,
  RunVmmRequestSchema,
} from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { cargoProgram } from "../../workload/cargo.ts";
import { PreparedWorkloads, workloadKey } from "../../service/prepared.ts";
import { workloadOf } from "../../service/workload.ts";
import {
  concatenate,
  expectRefusal,
  fuzz,
  type Random,
  refusedOr,
  refusedOrAsync,
} from "./harness.ts";
import { join, normalize } from "node:path";
import type { File } from "../../proto/gen/cloudlet/agent/agent_pb.ts";

const utf8 = new TextEncoder();
const LIMITS = {
  network: OWN_NETWORK,
  defaultMemory: 256,
  minMemory: 64,
  maxVcpus: 4,
  maxTime: 60_000,
};

const BODY = {
  workload_name: "hello",
  language: "python",
  code: "print(42)",
  log_level: "info",
  action: "prepare-and-run",
  server: { address: "localhost", port: 50051 },
  build: { source_code_path: "hello.py", release: false },
  id: "run-1",
  args: ["a"],
  env: { A: "b" },
  stdin: "x",
  timeout: 5,
  memory: 256,
  vcpus: 1,
  entry_point: "main.py",
  packages: ["curl"],
  image: {
    from: "alpine:3",
    files: [{ path: "etc/x", content: "y", mode: 420 }, { path: "etc/l", target: "x" }],
    run: ["true"],
  },
  output: "base64",
};
const FILES = [
  { path: "main.py", content_base64: "cHJpbnQoMSk=" },
  { path: "a/b", content: "" },
  { path: "l", target: "a" },
  { path: "d", directory: true },
];

/** A request that was taken is one that a machine can be made for, or is refused as such. */
function checkWorkload(request: RunVmmRequest): void {
  const workload = refusedOr(() => workloadOf(request, LIMITS), "invalid-input");
  if (workload === undefined) return;
  assert(workload.memory >= LIMITS.minMemory && workload.vcpus <= LIMITS.maxVcpus);
  assert(/^[A-Za-z0-9._-]{1,128}$/.test(workload.id));
  assert(/^[0-9a-f]{32}$/.test(workloadKey(workload)));
  checkPlaces(workload.execute.options?.files ?? []);
  for (const { target = "" } of workload.image?.files ?? []) {
    assert(!target.includes("\0") && utf8.encode(target).length <= 4095);
  }
}

/** No file is outside the workload's directory, and none is below a link or a file. */
function checkPlaces(files: readonly File[]): void {
  const notDirectories = files.filter(({ directory }) => !directory).map(({ path }) => `${path}/`);
  for (const { path, target, content, directory } of files) {
    assert.equal(normalize(path), path);
    assert(!path.startsWith("/") && !path.startsWith("../") && path !== "." && path !== "..");
    assert(!notDirectories.some((other) => path.startsWith(other)), path);
    assert(target === "" || !directory && content.length === 0 && !target.includes("\0"));
  }
}

fuzz("http-body", () => async (random) => {
  const base = random.chance(2) ? BODY : { ...BODY, code: undefined, files: FILES };
  const text = JSON.stringify(random.chance(8) ? base : random.damageJson(base)) ?? "";
  const body = random.chance(4) ? random.damage(utf8.encode(text), 3) : utf8.encode(text);
  const type = random.chance(20)
    ? random.text(20).replaceAll(/[^ -~]/g, "")
    : "application/json; charset=utf-8";
  const request = new Request("http://x/run", {
    method: "POST",
    headers: { "content-type": type },
    body,
  });
  const read = await refusedOrAsync(() => readJson(request, runRequest), "invalid-input");
  if (read === undefined) return;
  const wire = toRunVmmRequest(read);
  checkWorkload(fromBinary(RunVmmRequestSchema, toBinary(RunVmmRequestSchema, wire)));
});

fuzz("http-fork", () => async (random) => {
  const body = JSON.stringify(random.damageJson({ id: "copy-1", log_level: "warn" })) ?? "";
  const headers = { "content-type": "application/json" };
  const request = new Request("http://x/runs/a/fork", { method: "POST", headers, body });
  const read = await refusedOrAsync(() => readJson(request, forkRequest), "invalid-input");
  if (read === undefined) return;
  assert(read.id === undefined || /^[A-Za-z0-9._-]{1,128}$/.test(read.id));
  assert(Object.values(LogLevel).includes(toLogLevel(read.log_level)));
});

fuzz("http-query", () => {
  const keys = ["state", "limit", "before", "stream", "follow", "x", "__proto__"];
  const values = [
    "done",
    "10",
    "1.5",
    "0",
    "-1",
    "1e9",
    "NaN",
    "2024-01-01T00:00:00Z",
    "true",
    "no",
    "stdout",
    "",
  ];
  return (random) => {
    const query = Object.fromEntries(
      Array.from(
        { length: random.below(4) },
        () => [random.pick(keys), random.chance(4) ? random.text(6) : random.pick(values)],
      ),
    );
    const runs = refusedOr(() => readQuery(query, runsQuery), "invalid-input");
    if (runs !== undefined) {
      assert(Number.isInteger(runs.limit) && runs.limit >= 1 && runs.limit <= 1000);
      assert(runs.before === undefined || !Number.isNaN(Date.parse(runs.before)));
    }
    refusedOr(() => readQuery(query, logsQuery), "invalid-input");
  };
});

fuzz("run-requests", () => {
  const whole = toBinary(
    RunVmmRequestSchema,
    create(RunVmmRequestSchema, {
      workloadName: "w",
      language: 1,
      code: "print()",
      logLevel: LogLevel.WARN,
      action: 2,
      memoryMib: 300,
      vcpus: 2,
      packages: ["curl"],
      image: {
        from: "alpine:3",
        files: [{ path: "etc/x", content: utf8.encode("x") }],
        run: ["true"],
      },
      options: {
        executionId: "id",
        args: ["a"],
        env: { A: "b" },
        files: [
          { path: "a" },
          { path: "l", target: "a" },
          { path: "d", directory: true },
          { path: "m/b" },
        ],
      },
    }),
  );
  return (random) => {
    let request: RunVmmRequest;
    try {
      request = fromBinary(RunVmmRequestSchema, random.damage(whole, 4));
    } catch {
      return; // Connect answers what cannot be decoded
    }
    checkWorkload(request);
  };
});

fuzz("cargo-projects", () => (random) => {
  const damaged = (text: string) =>
    random.chance(2) ? text : new TextDecoder().decode(random.damage(utf8.encode(text), 3));
  const files: Record<string, string> = {
    "Cargo.toml": damaged(
      '[workspace]\nmembers = ["crates/*", "x"]\nexclude = ["crates/b"]\n[workspace.package]\n' +
        'edition = "2021"\n[package]\nname = "app"\ndefault-run = "tool"\nautobins = true\n' +
        '[[bin]]\nname = "tool"\npath = "src/tool.rs"\nrequired-features = ["f"]\n',
    ),
    "crates/a/Cargo.toml": damaged('[package]\nname = "a"\nedition.workspace = true\n'),
    "x/Cargo.toml": "",
    [damaged("crates/a/src/bin/one/main.rs")]: "",
    [damaged("src/bin/two.rs")]: "",
  };
  const project = { files: Object.keys(files), read: (path: string) => files[path] };
  const entryPoint = random.pick([undefined, "tool", "src/bin/two.rs", "", "../x"]);
  const found = refusedOr(() => cargoProgram(project, entryPoint), "invalid-input");
  assert(found === undefined || typeof found === "string");
});

fuzz("prepared-workloads", async (stack) => {
  const root = Deno.makeTempDirSync();
  stack.defer(() => Deno.removeSync(root, { recursive: true }));
  const prepared = new PreparedWorkloads(root);
  const request = (code: string) =>
    create(RunVmmRequestSchema, { workloadName: "w", language: 0, code, action: 0 });
  const workload = workloadOf(request("fn main() {}"), LIMITS);
  const byName = workloadOf(request(""), LIMITS);
  await prepared.save(workload, []);
  const path = join(root, workloadKey(workload), "workload");
  const whole = Deno.readFileSync(path);
  return async (random) => {
    if (!await Deno.stat(path).catch(() => undefined)) await prepared.save(workload, []);
    Deno.writeFileSync(path, random.damage(whole, 3));
    const found = await prepared.find(workload);
    // The program may be another one, but what the client asked for is not.
    if (found !== undefined) {
      assert.equal(found.language, "rust");
      assert.equal(found.options?.executionId, workload.id);
    }
    await refusedOrAsync(() => prepared.find(byName), "not-found");
  };
});

fuzz("api-keys", () => {
  const known = newKey("alice");
  const keys = new Keys([known.line, "# a remark", ""]);
  assert.equal(keys.check(`bearer  ${known.key}`), "alice");
  return (random) => {
    const field = random.pick([
      undefined,
      null,
      "",
      "Bearer ",
      `Bearer ${random.text(30)}`,
      random.text(40),
      "Bearer " + " ".repeat(9999),
    ]);
    try {
      keys.check(field);
      assert.fail("an unknown key is taken");
    } catch (error) {
      expectRefusal(error, "denied");
    }
  };
});

fuzz("server-sent-events", () => async (random) => {
  const values = Array.from({ length: random.below(5) }, () => random.damageJson(BODY) ?? null);
  const stream = eventStream(
    (async function* () {
      for (const data of values) yield await Promise.resolve({ id: "r/1", data });
    })(),
    () => {},
  ).body!;
  const bytes = concatenate(...await Array.fromAsync(stream));
  const read = async (bytes: Uint8Array) => await Array.fromAsync(eventData(pieces(random, bytes)));
  assert.deepEqual(
    (await read(bytes)).map((text) => JSON.parse(text)),
    JSON.parse(JSON.stringify(values)),
  );
  await read(random.damage(bytes));
});

function pieces(random: Random, bytes: Uint8Array): ReadableStream<Uint8Array> {
  const at = random.below(bytes.length + 1);
  return ReadableStream.from([bytes.slice(0, at), bytes.slice(at)]);
}
