/** Packages of a project, with machines of this host's processes and an installer that only says so. */
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { HostMachine, HostMachineRequest } from "../node/host_machine.ts";
import type { MachineNetwork } from "../node/network.ts";
import {
  type ExecuteRequest,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  OptionsSchema,
  Outcome_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  Language,
  Network_Access,
  RunVmmRequestSchema,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import type { MissingFile } from "../workload/dependencies/missing.ts";
import { HostProcessMachines } from "../test/host_process_machine.ts";
import { testNode } from "../test/test_node.ts";
import { OWN_NETWORK } from "./network.ts";
import { Orchestrator } from "./orchestrator.ts";
import { RunStore } from "./run_store.ts";

const forever = new AbortController().signal;
const PUBLIC = { access: Network_Access.PUBLIC };

interface Installed {
  readonly request: HostMachineRequest;
  readonly execute: ExecuteRequest;
  readonly network: MachineNetwork | undefined;
}

/** What installing says, and how it ends. */
type Says = (signal: AbortSignal) => AsyncIterable<MessageInitShape<typeof ExecuteResponseSchema>>;

async function* succeeds(): ReturnType<Says> {
  yield { stage: Stage.RUNNING, stdout: "Collecting six\n" };
  await new Promise((resolve) => setTimeout(resolve, 50));
  yield { stage: Stage.DONE, exitCode: 0, outcome: { kind: Kind.EXITED } };
}

async function world(says: Says = succeeds) {
  await using stack = new AsyncDisposableStack();
  const machines = stack.use(new HostProcessMachines());
  const store = stack.use(RunStore.inMemory());
  const kept = new Set<string>();
  const installed: Installed[] = [];
  const programs: HostMachineRequest[] = [];
  const node = testNode((request) => {
    if (!request.id.endsWith("-packages")) {
      programs.push(request);
      return machines.factory(request);
    }
    let network: MachineNetwork | undefined;
    const ended = Promise.withResolvers<string>();
    const agent = {
      async *execute(execute: ExecuteRequest, { signal }: { signal: AbortSignal }) {
        installed.push({ request, execute, network });
        for await (const event of says(signal)) yield create(ExecuteResponseSchema, event);
      },
    };
    const machine: HostMachine = {
      agent: agent as unknown as HostMachine["agent"],
      ended: ended.promise,
      console: () => "",
      connect(asked) {
        network = asked;
        return Promise.resolve();
      },
      keepDependencies(key) {
        kept.add(key);
        return Promise.resolve();
      },
      [Symbol.asyncDispose]() {
        ended.resolve("it was ended");
        return Promise.resolve();
      },
    };
    return Promise.resolve(machine);
  });
  Object.assign(node, {
    hasDependencies: (key: string) => Promise.resolve(kept.has(key)),
    packagesWith: (_image: string, files: readonly MissingFile[]) =>
      Promise.resolve(
        new Map(
          files.filter(({ name }) => name === "libpq-fe.h").map(({ name }) => [name, "libpq-dev"]),
        ),
      ),
  });
  const service = stack.use(
    new Orchestrator({
      ...{ node, store, prepared: machines.prepared },
      limits: {
        ...{ defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
        network: OWN_NETWORK,
      },
    }),
  );
  return { service, store, kept, installed, programs, resources: stack.move() };
}

function project(
  requirements: string,
  more: MessageInitShape<typeof RunVmmRequestSchema> = {},
  buildEnv: Record<string, string> = {},
) {
  const file = (path: string, text: string) => ({ path, content: new TextEncoder().encode(text) });
  const files = [file("main.py", "print('ran')"), file("requirements.txt", requirements)];
  const given = create(RunVmmRequestSchema, more);
  const options = create(OptionsSchema, { files, buildEnv });
  return { ...given, language: Language.PYTHON, logLevel: 3, options };
}

async function collect(responses: AsyncIterable<ExecuteResponse>) {
  let [stdout, building] = ["", ""];
  let last: ExecuteResponse | undefined;
  for await (const response of responses) {
    last = response;
    if (response.stage === Stage.BUILDING) building += response.stderr ?? "";
    assert(response.stage !== Stage.BUILDING || response.stdout === undefined);
    if (response.stage === Stage.RUNNING) stdout += response.stdout ?? "";
  }
  assert(last);
  return { stdout, building, last };
}

Deno.test("what a project names is installed once, in a machine of its own, and then needs no network", async () => {
  const { service, store, kept, installed, programs, resources } = await world();
  await using _ = resources;
  const first = await collect(service.run(project("six\n", { buildNetwork: PUBLIC }), forever));
  assert.equal(first.stdout, "ran\n");
  assert.equal(first.building, "Collecting six\n");
  const [{ request, execute, network }] = installed as [Installed];
  assert(request.packages.includes("python3-pip") && request.memory > 256);
  assert.equal(request.idle, false);
  assert.equal(network?.downloads, true);
  assert.deepEqual(execute.options?.files.map(({ path }) => path), ["requirements.txt"]);
  const [key] = kept;
  assert.equal(programs[0]?.image?.dependencies, key);
  assert(!programs[0]!.packages.includes("python3-pip"), "the program has no installer");
  const second = await collect(service.run(project("six\n"), forever));
  assert.deepEqual([second.stdout, second.building, installed.length], ["ran\n", "", 1]);
  assert(store.list().every(({ outcome }) => outcome === "exited"));
});

Deno.test("without leave it is refused with the names, and with --no-install it runs as it is", async () => {
  const { service, installed, resources } = await world();
  await using _ = resources;
  const names = Array.from({ length: 10 }, (_, i) => `package-${i}`);
  await assert.rejects(
    () => collect(service.run(project(names.join("\n")), forever)),
    (error: { message: string; code: string; remedy: string }) => {
      assert.equal(error.code, "denied");
      assert.match(error.message, /requirements.txt names packages .*\(package-0, .* and 2 more\)/);
      assert.match(error.remedy, /--build-network public/);
      return true;
    },
  );
  const none = { access: Network_Access.NONE };
  await assert.rejects(
    () => collect(service.run(project("six\n", { buildNetwork: none }), forever)),
    /six/,
  );
  const without = await collect(service.run(project("six\n", { noInstall: true }), forever));
  assert.equal(without.stdout, "ran\n");
  assert.equal(installed.length, 0);
  await assert.rejects(
    () =>
      collect(
        service.run(
          project("six\n", { buildNetwork: { ...PUBLIC, publish: [{ guestPort: 1 }] } }),
          forever,
        ),
      ),
    /publish ports/,
  );
});

Deno.test("Deno may fetch what it imports itself, where its program has a network", async () => {
  const { service, installed, resources } = await world();
  await using _ = resources;
  const program = {
    language: Language.DENO,
    code: 'if (0) await import("npm:six");console.log(1)',
  };
  const alone = create(RunVmmRequestSchema, program);
  await assert.rejects(
    () => collect(service.run(alone, forever)),
    /the source names packages .*npm:six/,
  );
  const networked = create(RunVmmRequestSchema, { ...program, network: PUBLIC });
  // A process of this host can be given none: it comes as far as that.
  await assert.rejects(() => collect(service.run(networked, forever)), /it has no card/);
  assert.equal(installed.length, 0);
});

Deno.test("a failure ends the run with the tool's words and code, and keeps nothing", async () => {
  const { service, store, kept, programs, resources } = await world(async function* () {
    yield { stage: Stage.RUNNING, stdout: "ERROR: no such package\n" };
    yield { stage: Stage.DONE, exitCode: 3, outcome: { kind: Kind.EXITED } };
  });
  await using _ = resources;
  const { last, building } = await collect(
    service.run(project("nosuch\n", { buildNetwork: PUBLIC }), forever),
  );
  assert.equal(building, "ERROR: no such package\n");
  assert.equal(last.stage, Stage.FAILED);
  assert.equal(last.exitCode, 3);
  assert.equal(last.outcome?.kind, Kind.BUILD_FAILED);
  assert.equal(last.outcome?.message, "pip ended with exit code 3");
  assert.equal(store.list()[0]?.outcome, "build-failed");
  assert.deepEqual([kept.size, programs.length], [0, 0]);
});

Deno.test("a failure names the Debian package that has what a build lacked", async () => {
  const { service, resources } = await world(async function* () {
    const words = "x.c: fatal error: libpq-fe.h: No such file or directory\ncannot find -lnobody\n";
    for (const half of [words.slice(0, 20), words.slice(20)]) {
      yield { stage: Stage.RUNNING, stderrBytes: new TextEncoder().encode(half) };
    }
    yield { stage: Stage.DONE, exitCode: 1, outcome: { kind: Kind.EXITED } };
  });
  await using _ = resources;
  const asked = project("psycopg2\n", { buildNetwork: PUBLIC });
  const { last } = await collect(service.run(asked, forever));
  assert.equal(
    last.outcome?.message,
    "pip ended with exit code 1; it lacks libpq-fe.h, which the Debian package libpq-dev has: " +
      'add [image] packages = ["libpq-dev"]',
  );
});

Deno.test("runs that want the same at the same time install it once; who gives up holds nobody up", async () => {
  const gate = Promise.withResolvers<void>();
  let begun = 0;
  const { service, installed, resources } = await world(async function* (signal) {
    begun++;
    yield { stage: Stage.RUNNING, stdout: "begun\n" };
    const given = Promise.withResolvers<never>();
    signal.addEventListener("abort", () => given.reject(signal.reason));
    await Promise.race([gate.promise, given.promise]);
    yield { stage: Stage.DONE, exitCode: 0, outcome: { kind: Kind.EXITED } };
  });
  await using _ = resources;
  const leaves = new AbortController();
  const wanted = project("six\n", { buildNetwork: PUBLIC });
  const first = collect(service.run(wanted, leaves.signal));
  first.catch(() => {});
  const others = [1, 2].map(() => collect(service.run(wanted, forever)));
  while (begun === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(installed.length, 1);
  leaves.abort();
  await assert.rejects(first);
  while (begun === 1) await new Promise((resolve) => setTimeout(resolve, 5));
  gate.resolve();
  assert.deepEqual((await Promise.all(others)).map(({ stdout }) => stdout), ["ran\n", "ran\n"]);
  assert.equal(installed.length, 2);
});

Deno.test("a client that names a registry, or has a key to one, shares nothing with others", async () => {
  const { service, installed, kept, resources } = await world();
  await using _ = resources;
  const secrets = (value: string) => ({
    buildNetwork: { ...PUBLIC, secrets: [{ name: "TOKEN", value, hosts: ["example.com"] }] },
  });
  const withUrl = project("six\n", secrets("one-secret"), {
    PIP_INDEX_URL: "https://me:${TOKEN}@example.com/simple",
  });
  const requests = [
    project("six\n", { buildNetwork: PUBLIC }),
    project("six\n", { buildNetwork: PUBLIC }, { PIP_INDEX_URL: "http://10.0.2.2:1/" }),
    project("six\n", secrets("one-secret")),
    project("six\n", secrets("another-secret")),
    project("six==1\n", { buildNetwork: PUBLIC }),
    project("six\n", { buildNetwork: PUBLIC, languageVersion: "3.11" }),
  ];
  for (const request of requests) await collect(service.run(request, forever));
  assert.equal(kept.size, requests.length);
  for (const request of requests) await collect(service.run(request, forever));
  assert.equal(installed.length, requests.length);
  await collect(service.run(withUrl, forever));
  const { PIP_INDEX_URL: url, TOKEN: token } = installed.at(-1)!.execute.options!.env;
  assert.equal(url, `https://me:${token}@example.com/simple`);
  const [, , { execute }] = installed as [Installed, Installed, Installed];
  assert.notEqual(execute.options?.env["TOKEN"], "one-secret");
  assert.match(execute.options?.env["TOKEN"] ?? "", /^[A-Za-z0-9]{32,}$/);
});
