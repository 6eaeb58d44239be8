/** What a run must survive: a hostile or silent agent, a full disk, a machine that takes its time. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import {
  ExecuteRequest_Action as Action,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  InputRequestSchema,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language, RunVmmRequestSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { HostileAgent, reply, says, saysAndWaits } from "../test/hostile_agent.ts";
import type { HostMachine, HostMachineRequest } from "../node/host_machine.ts";
import { Orchestrator, type OrchestratorOptions } from "./orchestrator.ts";
import { PreparedWorkloads } from "./prepared.ts";
import { RunStore } from "./run_store.ts";
import type { AdmissionLimits } from "../node/admission.ts";
import { testNode } from "../test/test_node.ts";
import { settled } from "../test/settled.ts";

const forever = new AbortController().signal;
const event = (fields: MessageInitShape<typeof ExecuteResponseSchema>) =>
  create(ExecuteResponseSchema, fields);
const RUNNING = event({ stage: Stage.RUNNING, stdout: "out" });
const DONE = event({ stage: Stage.DONE, exitCode: 3, outcome: { kind: Kind.EXITED } });

/** A request for a run whose id is "one", unless it is told. */
function bash(executionId = "one", action = Action.PREPARE_AND_RUN) {
  const code = "true";
  const options = { executionId };
  return create(RunVmmRequestSchema, {
    language: Language.BASH,
    code,
    action,
    logLevel: 3,
    options,
  });
}

async function withService(
  machines: (request: HostMachineRequest) => Promise<HostMachine>,
  test: (service: Orchestrator, store: RunStore, database: DatabaseSync) => Promise<void>,
  options: Partial<OrchestratorOptions> = {},
  admission: Partial<AdmissionLimits> = {},
): Promise<void> {
  const root = await Deno.makeTempDir();
  const database = new DatabaseSync(":memory:");
  try {
    using store = RunStore.inMemory({}, database);
    await using service = new Orchestrator({
      node: testNode(machines, admission),
      store,
      prepared: new PreparedWorkloads(root),
      limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 24 * 3_600_000 },
      ...options,
    });
    await test(service, store, database);
    deepEqual([service.active, service.admission.machines], [[], 0]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** The responses until the last of them, and what was written. */
async function collect(responses: AsyncIterable<ExecuteResponse>) {
  const all = await Array.fromAsync(responses);
  return { all, last: all.at(-1)!, stdout: all.map(({ stdout }) => stdout ?? "").join("") };
}

/** Starts a run and reads on until its program has written something. */
async function startedRun(service: Orchestrator, client = forever) {
  const responses = service.run(bash(), client);
  for (let step = await responses.next(); !step.done; step = await responses.next()) {
    if (step.value.stdout !== undefined) break;
  }
  return responses;
}

// -- the disk --------------------------------------------------------------------------------------

Deno.test("a full disk costs a run its record, and nobody else anything", async () => {
  await using agent = new HostileAgent({
    Execute: says(() => [
      event({ stage: Stage.RUNNING, stdout: "x".repeat(60_000) }),
      event({ stage: Stage.DONE, exitCode: 3, outcome: { message: "ü".repeat(4096) } }),
    ]),
  });
  let disposed = 0;
  const machine = agent.machine({ [Symbol.asyncDispose]: () => Promise.resolve(void disposed++) });
  const ends: string[] = [];
  await withService(() => Promise.resolve(machine), async (service, store, database) => {
    const responses = service.run(bash(), forever);
    await responses.next(); // it is recorded
    database.exec("PRAGMA max_page_count = 1");
    const { stdout, last } = await settled(collect(responses));
    deepEqual([stdout.length, last.exitCode, disposed], [60_000, 3, 1]);
    equal(store.get("one")!.outcome, "exited");
    await rejects(async () => {
      for (let i = 0; i < 1000; i++) await collect(service.run(bash(`more-${i}`), forever));
    }, { code: "host", message: /^Cannot start the run more-\d+: .* full/ });
    database.exec("PRAGMA max_page_count = 100000");
    await collect(service.run(bash("two"), forever));
    const row = database.prepare("SELECT outcome FROM runs WHERE id = 'one'").get();
    equal(row?.outcome, "exited");
  }, { onEnd: ({ id }) => void ends.push(id) });
  equal(ends[0], "one");
});

// -- agents that keep silent -----------------------------------------------------------------------

Deno.test("closing does not wait for an agent that answers nothing", async () => {
  await using agent = new HostileAgent({ Execute: saysAndWaits(RUNNING) });
  await withService(() => Promise.resolve(agent.machine()), async (service, store) => {
    const responses = await startedRun(service);
    const rest = collect(responses);
    await settled(service.close(100));
    deepEqual(agent.asked, ["Execute", "Signal"]); // which it did not answer
    equal((await rest).last.outcome?.kind, Kind.KILLED);
    equal(store.get("one")!.outcome, "stopped");
  });
});

Deno.test("a run whose agent keeps silent is stopped at once, and by the client's leaving", async () => {
  for (const how of ["stop", "leave", "return"] as const) {
    await using agent = new HostileAgent({ Execute: saysAndWaits(RUNNING) });
    await withService(() => Promise.resolve(agent.machine()), async (service, store) => {
      const client = new AbortController();
      const responses = await startedRun(service, client.signal);
      if (how === "stop") equal(await settled(service.stop("one")), true);
      else if (how === "return") await settled(responses.return(undefined));
      else {
        const rest = collect(responses);
        client.abort();
        await rejects(settled(rest));
      }
      equal(store.get("one")!.outcome, how === "stop" ? "stopped" : "disconnected");
      await responses.return(undefined);
    });
  }
});

Deno.test("an agent that never says a first word ends the run", async () => {
  await using agent = new HostileAgent({});
  await withService(() => Promise.resolve(agent.machine()), async (service, store) => {
    await rejects(settled(collect(service.run(bash(), forever))), {
      code: "guest",
      message: /its agent has said nothing for 0\.1 s/,
    });
    equal(store.get("one")!.outcome, "error");
  }, {
    limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000, firstAnswer: 100 },
  });
});

Deno.test("an agent that has said something may be silent for as long as it likes", async () => {
  await using agent = new HostileAgent({
    Execute: says(() => [RUNNING, DONE]),
    Signal: reply(EmptySchema, create(EmptySchema)),
  });
  await using waiting = new HostileAgent({ Execute: saysAndWaits(RUNNING) });
  const limits = {
    ...{ defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
    firstAnswer: 200,
  };
  const machines = [waiting.machine(), agent.machine()];
  await withService(() => Promise.resolve(machines.shift()!), async (service, store) => {
    const responses = await startedRun(service);
    await new Promise((resolve) => setTimeout(resolve, 400));
    deepEqual(service.active, ["one"]);
    await service.stop("one");
    await responses.return(undefined);
    const { last } = await collect(service.run(bash("two"), forever));
    equal(last.exitCode, 3);
    equal(store.get("one")!.outcome, "stopped");
  }, { limits });
});

// -- machines that are being made ------------------------------------------------------------------

Deno.test("a run whose machine is being made is stopped at once; the machine that comes is ended", async () => {
  for (const how of ["stop", "signal", "leave", "close"] as const) {
    await using agent = new HostileAgent({});
    const made = Promise.withResolvers<HostMachine>();
    const ended = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<HostMachineRequest>();
    const machines = (request: HostMachineRequest) => {
      asked.resolve(request);
      return made.promise; // it does not hear that it is given up
    };
    await withService(machines, async (service, store) => {
      // The service waits for it in the end, also of a test that fails.
      using _made = { [Symbol.dispose]: () => made.reject(new Error("the test has failed")) };
      const client = new AbortController();
      const rest = collect(service.run(bash(), client.signal));
      const { signal } = await asked.promise;
      equal(service.admission.machines, 1);
      if (how === "stop") equal(await settled(service.stop("one")), true);
      if (how === "signal") await settled(service.signal("one", Signal.TERM));
      if (how === "close") await settled(service.close(60_000));
      if (how === "leave") {
        client.abort();
        await rejects(settled(rest));
      } else equal((await settled(rest)).last.outcome?.kind, Kind.KILLED);
      equal(signal.aborted, true);
      // Its memory is not free before it is gone, and neither is its place.
      deepEqual([service.active, service.admission.machines], [[], 1]);
      equal(store.get("one")!.outcome, how === "leave" ? "disconnected" : "stopped");
      made.resolve(
        agent.machine({ [Symbol.asyncDispose]: () => Promise.resolve(ended.resolve()) }),
      );
      await settled(ended.promise);
      await new Promise((resolve) => setTimeout(resolve));
    });
  }
});

Deno.test("a run that waits for a place leaves the queue when it is stopped or its client leaves", async () => {
  await using agent = new HostileAgent({ Execute: saysAndWaits(RUNNING) });
  await withService(
    () => Promise.resolve(agent.machine()),
    async (service, store) => {
      const first = await startedRun(service);
      for (const how of ["stop", "leave"]) {
        const client = new AbortController();
        const waiting = service.run(bash(how), client.signal);
        await waiting.next();
        const rest = collect(waiting);
        while (service.admission.queued === 0) {
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        if (how === "stop") {
          await settled(service.stop(how));
          await rest;
        } else {
          client.abort();
          await rejects(settled(rest));
        }
        equal(service.admission.queued, 0);
        equal(store.get(how)!.outcome, how === "stop" ? "stopped" : "disconnected");
      }
      await service.stop("one");
      await first.return(undefined);
    },
    {},
    { machines: 1 },
  );
});

Deno.test("a client that leaves while its workload is looked up starts nothing", async () => {
  const looking = Promise.withResolvers<void>();
  const found = Promise.withResolvers<undefined>();
  class SlowWorkloads extends PreparedWorkloads {
    override find() {
      looking.resolve();
      return found.promise;
    }
  }
  let made = 0;
  const machines = () => Promise.reject(new Error(`made ${++made}`));
  await withService(machines, async (service, store) => {
    const client = new AbortController();
    const rest = collect(service.run(bash("one", Action.RUN), client.signal));
    await looking.promise;
    client.abort(new Error("it left"));
    found.resolve(undefined);
    await rejects(settled(rest), /it left/);
    deepEqual([made, store.list()], [0, []]);
  }, { prepared: new SlowWorkloads("/nowhere") });
});

Deno.test("input for a program that does not run yet can be given up", async () => {
  const made = Promise.withResolvers<HostMachine>();
  await withService(() => made.promise, async (service) => {
    const responses = service.run(bash(), forever);
    await responses.next();
    const client = new AbortController();
    async function* input() {
      yield create(InputRequestSchema, { executionId: "one" });
    }
    const feeding = rejects(settled(service.input(input(), client.signal)), /^Error: enough$/);
    client.abort(new Error("enough"));
    await feeding;
    made.reject(new Error("no machine"));
    await rejects(collect(responses), /no machine/);
  });
});

Deno.test("a run leaves no timer behind: the process of its service ends by itself", async () => {
  const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const code = `
    import { Orchestrator } from ${url("./orchestrator.ts")};
    import { PreparedWorkloads } from ${url("./prepared.ts")};
    import { RunStore } from ${url("./run_store.ts")};
    import { HostileAgent, says } from ${url("../test/hostile_agent.ts")};
    import { testNode } from ${url("../test/test_node.ts")};
    import { create } from "npm:@bufbuild/protobuf";
    import { ExecuteResponseSchema } from ${url("../proto/gen/cloudlet/agent/agent_pb.ts")};
    import { RunVmmRequestSchema } from ${url("../proto/gen/vmmorchestrator/vmm_pb.ts")};
    const done = create(ExecuteResponseSchema, { stage: 3, exitCode: 3 });
    const agent = new HostileAgent({ Execute: says(() => [done]) });
    const service = new Orchestrator({
      node: testNode(() => Promise.resolve(agent.machine()), { machines: 1, wait: 3600000 }),
      store: RunStore.inMemory(),
      prepared: new PreparedWorkloads("/nowhere"),
      limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 86400000 },
    });
    const request = create(RunVmmRequestSchema, { language: 4, code: "true", action: 2 });
    const client = new AbortController().signal;
    for await (const { exitCode } of service.run(request, client)) if (exitCode) console.log(exitCode);`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--quiet",
      `--config=${fileURLToPath(new URL("../deno.json", import.meta.url))}`,
      code,
    ],
    stdout: "piped",
  }).spawn();
  try {
    const { success, stdout } = await settled(child.output());
    deepEqual([success, new TextDecoder().decode(stdout)], [true, "3\n"]);
  } finally {
    try {
      child.kill("SIGKILL");
    } catch {
      // it ended by itself
    }
  }
});

// -- agents that say too much ----------------------------------------------------------------------

function* endlessly<T>(first: T, ...rest: readonly T[]): Generator<T> {
  for (;;) yield* [first, ...rest];
}

Deno.test("an agent that misbehaves ends the run, and its words are kept up to a length", async () => {
  const built = { path: "a", content: new Uint8Array(1) };
  const cases: [ExecuteResponse[] | Iterable<ExecuteResponse>, RegExp][] = [
    [[RUNNING, event({ stage: Stage.RUNNING, built })], /files that nobody asked for/],
    [
      endlessly(event({ stage: Stage.BUILDING }), event({ stage: Stage.RUNNING })),
      /without an end/,
    ],
    [[event({ stage: Stage.RUNNING, stdout: "x".repeat(2 << 20) })], /message of it has/],
    [[RUNNING], /before the workload ended/],
  ];
  for (const [events, why] of cases) {
    await using agent = new HostileAgent({ Execute: says(() => events) });
    await withService(() => Promise.resolve(agent.machine()), async (service, store) => {
      await rejects(settled(collect(service.run(bash(), forever))), why);
      equal(store.get("one")!.outcome, "error");
    });
  }
  const message = "m".repeat(500_000);
  await using agent = new HostileAgent({
    Execute: says(() => [event({ stage: Stage.FAILED, outcome: { kind: Kind.KILLED, message } })]),
  });
  await withService(() => Promise.resolve(agent.machine()), async (service, store) => {
    const { last } = await collect(service.run(bash(), forever));
    equal(last.outcome?.message.length, 4096);
    equal(store.get("one")!.message?.length, 4096);
  });
});

Deno.test("a guest cannot have the record of a run written again and again", async () => {
  const flips = Array.from(
    { length: 300 },
    (_, i) => event({ stage: i % 2 === 0 ? Stage.RUNNING : Stage.BUILDING }),
  );
  await using agent = new HostileAgent({ Execute: says(() => [...flips, DONE]) });
  await withService(() => Promise.resolve(agent.machine()), async (service, _store, database) => {
    database.exec(`
      CREATE TABLE writes (id INTEGER PRIMARY KEY);
      CREATE TRIGGER written AFTER UPDATE ON runs BEGIN INSERT INTO writes VALUES (NULL); END`);
    await collect(service.run(bash(), forever));
    const { count } = database.prepare("SELECT count(*) AS count FROM writes").get()!;
    ok(Number(count) < 10, `${count} writes`);
  });
});
