import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  ExecuteRequest_Action as Action,
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  InputRequestSchema,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language, LogLevel, RunVmmRequestSchema } from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { HostProcessMachines } from "../test/host_process_machine.ts";
import { Orchestrator, type OrchestratorOptions } from "./orchestrator.ts";
import { RunStore } from "./run_store.ts";
import type { AdmissionLimits } from "../node/admission.ts";
import { testNode } from "../test/test_node.ts";

const forever = new AbortController().signal;

async function withService(
  test: (service: Orchestrator, store: RunStore, machines: HostProcessMachines) => Promise<void>,
  options: Partial<OrchestratorOptions> = {},
  admission: Partial<AdmissionLimits> = {},
): Promise<void> {
  await using machines = new HostProcessMachines();
  using store = RunStore.inMemory();
  await using service = new Orchestrator({
    node: testNode(machines.factory, admission),
    store,
    prepared: machines.prepared,
    limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
    ...options,
  });
  await test(service, store, machines);
  deepEqual(service.active, []);
  equal(service.admission.machines, 0);
  equal(service.admission.memory, 0);
  equal(service.admission.queued, 0);
  equal(machines.running, 0);
}

async function hasRust(): Promise<boolean> {
  const { success } = await new Deno.Command("sh", { args: ["-c", "rustc --version"] }).output();
  if (!success) console.log("left out: there is no rustc");
  return success;
}

function bash(code: string, more: MessageInitShape<typeof RunVmmRequestSchema> = {}) {
  return create(RunVmmRequestSchema, { language: Language.BASH, code, logLevel: 3, ...more });
}

async function collect(responses: AsyncIterable<ExecuteResponse>) {
  let stdout = "";
  let stderr = "";
  let debug = "";
  const stages: string[] = [];
  let last: ExecuteResponse | undefined;
  for await (const response of responses) {
    last = response;
    if (response.stage === Stage.DEBUG) {
      debug += response.stderr ?? "";
      continue;
    }
    stdout += response.stdout ?? "";
    stderr += response.stderr ?? "";
    if (stages.at(-1) !== Stage[response.stage]) stages.push(Stage[response.stage]);
  }
  ok(last);
  return { stdout, stderr, debug, stages, last, exitCode: last.exitCode };
}

Deno.test("a program's output, stages and exit code come through and are noted", () =>
  withService(async (service, store) => {
    const result = await collect(
      service.run(bash("echo out; echo err >&2; exit 3", { workloadName: "w" }), forever),
    );
    equal(result.stdout, "out\n");
    equal(result.stderr, "err\n");
    equal(result.exitCode, 3);
    deepEqual(result.stages, ["PENDING", "RUNNING", "DONE"]);
    const [run] = store.list();
    ok(run);
    equal(run.workloadName, "w");
    equal(run.state, "done");
    equal(run.outcome, "exited");
    equal(run.exitCode, 3);
    equal(run.stdoutBytes, 4);
    ok(run.startedAt !== null && run.endedAt !== null && run.endedAt >= run.startedAt);
    ok(run.wallTime !== null && run.peakMemory !== null);
    const log = [...store.logs(run.id)].map(({ stream, data }) => [
      stream,
      new TextDecoder().decode(data),
    ]);
    deepEqual(log.filter(([stream]) => stream !== "service").sort(), [
      ["stderr", "err\n"],
      ["stdout", "out\n"],
    ]);
  }));

/** Compiles slowly enough to be noticed, and says so. */
const RUST = 'fn main() { println!("{} {:?}", 6 * 7, std::env::args().nth(1)); }';

Deno.test("a prepared workload is run in another machine without being built again", () =>
  withService(async (service, store, machines) => {
    const rust = (action: Action, more: MessageInitShape<typeof RunVmmRequestSchema> = {}) =>
      collect(service.run(
        create(RunVmmRequestSchema, {
          workloadName: "answer",
          language: Language.RUST,
          code: RUST,
          logLevel: 3,
          action,
          ...more,
        }),
        forever,
      ));
    if (!await hasRust()) return;
    const built = await rust(Action.RUN); // nothing was prepared: it is built first
    deepEqual(built.stages, ["PENDING", "BUILDING", "RUNNING", "DONE"]);
    equal(built.stdout, "42 None\n");

    const prepared = await rust(Action.PREPARE);
    deepEqual(prepared.stages, ["PENDING", "BUILDING", "DONE"]);
    equal(prepared.last.outcome?.kind, Kind.PREPARED);
    equal(store.list()[0]?.outcome, "prepared");
    const machinesBefore = machines.count;

    const again = await rust(Action.RUN, { options: { args: ["x"] } });
    deepEqual(again.stages, ["PENDING", "RUNNING", "DONE"]);
    equal(again.stdout, '42 Some("x")\n');
    const byName = await rust(Action.RUN, { code: "" });
    deepEqual(byName.stages, ["PENDING", "RUNNING", "DONE"]);
    equal(byName.stdout, "42 None\n");
    equal(machines.count, machinesBefore + 2);

    const changed = await rust(Action.RUN, { code: RUST.replace("7", "8") });
    deepEqual(changed.stages, ["PENDING", "BUILDING", "RUNNING", "DONE"]);
    equal(changed.stdout, "48 None\n");
    const optimised = await rust(Action.RUN, { options: { release: true } });
    ok(optimised.stages.includes("BUILDING"));
  }));

Deno.test("a workload of a language that builds nothing is prepared and run by its name", () =>
  withService(async (service) => {
    const prepare = bash("echo $1", { workloadName: "w", action: Action.PREPARE });
    deepEqual((await collect(service.run(prepare, forever))).stages, ["PENDING", "DONE"]);
    const run = bash("", { workloadName: "w", action: Action.RUN, options: { args: ["a"] } });
    equal((await collect(service.run(run, forever))).stdout, "a\n");
  }));

Deno.test("a run without a source that was not prepared is refused before anything starts", () =>
  withService(async (service, store, machines) => {
    const run = bash("", { workloadName: "never", action: Action.RUN });
    await rejects(collect(service.run(run, forever)), {
      code: "not-found",
      message: 'Cannot run the bash workload "never": it has no source, and none of this name ' +
        "was prepared",
    });
    deepEqual([store.list(), machines.count], [[], 0]);
  }));

Deno.test("what the service does is told to a client that asks for it", () =>
  withService(async (service) => {
    const quiet = await collect(service.run(bash("true"), forever));
    equal(quiet.debug, "");
    const told = await collect(service.run(bash("true", { logLevel: LogLevel.DEBUG }), forever));
    match(told.debug, /Start the agent of/);
  }));

Deno.test("a program that the agent refuses ends the run with the agent's reason", () =>
  withService(async (service, store) => {
    const request = bash("", { options: { files: [{ path: "data.txt" }] } });
    await rejects(collect(service.run(request, forever)), /no source file/);
    equal(store.list()[0]?.outcome, "error");
  }));

for (
  const [what, change, expected] of [
    ["an unknown language", { language: 99 as Language }, /language number 99/],
    ["an unknown action", { action: 9 }, /action number 9/],
    ["a bad id", { options: { executionId: "a b" } }, /id "a b"/],
    ["too little memory", { memoryMib: 1 }, /1 MiB of memory are too little/],
    ["too much memory", { memoryMib: 5000 }, /asks for 5000 MiB/],
    ["too many processors", { vcpus: 5 }, /5 virtual CPUs/],
    ["a path that leads out", { options: { files: [{ path: "../x" }] } }, /"\.\."/],
    ["a bad package name", { packages: ["-x"] }, /"-x" is no name/],
    [
      "a command without an image",
      { language: Language.COMMAND },
      /neither a program nor an image/,
    ],
    ["an image's bad name", { image: { from: "UPPER" } }, /lower case/],
    ["an image on the service's disk", { image: { from: "oci:/etc" } }, /server's own disk/],
    [
      "a file outside of the image",
      { image: { files: [{ path: "../x" }] } },
      /"\.\.\/x" is no place for a file/,
    ],
  ] as const
) {
  Deno.test(`${what} is refused before a machine is started`, () =>
    withService(async (service, store, machines) => {
      const request = bash("true", change as MessageInitShape<typeof RunVmmRequestSchema>);
      await rejects(collect(service.run(request, forever)), {
        code: "invalid-input",
        message: expected,
      });
      equal(machines.count, 0);
      deepEqual(store.list(), []);
    }));
}

Deno.test("an id is given once", () =>
  withService(async (service) => {
    const request = bash("true", { options: { executionId: "one" } });
    await collect(service.run(request, forever));
    await rejects(collect(service.run(request, forever)), { code: "conflict" });
  }));

/** Starts a run and reads on until the program has written something. */
async function startedRun(service: Orchestrator, code: string, signal = forever) {
  const responses = service.run(bash(code), signal);
  const { value } = await responses.next();
  for (let step = await responses.next(); !step.done; step = await responses.next()) {
    if (step.value.stdout !== undefined) break;
  }
  return { id: (value as ExecuteResponse).executionId, responses };
}

Deno.test("a client that leaves ends the run, even when it never reads again", () =>
  withService(async (service, store) => {
    const client = new AbortController();
    const { id } = await startedRun(service, "echo go; sleep 1000", client.signal);
    const ended = Promise.withResolvers<void>();
    const look = setInterval(() => service.active.length === 0 && ended.resolve(), 5);
    client.abort();
    await ended.promise;
    clearInterval(look);
    equal(store.get(id)?.outcome, "disconnected");
  }));

Deno.test("leaving the iteration ends the run", () =>
  withService(async (service, store) => {
    const { id, responses } = await startedRun(service, "echo go; sleep 1000");
    await responses.return(undefined);
    equal(store.get(id)?.outcome, "disconnected");
  }));

Deno.test("a run that is stopped says so and ends with 137", () =>
  withService(async (service, store) => {
    const { id, responses } = await startedRun(service, "echo go; sleep 1000");
    equal(await service.stop(id), true);
    const { last } = await collect(responses);
    equal(last.stage, Stage.FAILED);
    equal(last.exitCode, 137);
    equal(last.outcome?.kind, Kind.KILLED);
    equal(store.get(id)?.outcome, "stopped");
    equal(await service.stop(id), false);
  }));

Deno.test("a signal reaches the program", () =>
  withService(async (service) => {
    const { id, responses } = await startedRun(
      service,
      "trap 'echo caught; exit 7' TERM; echo go; while :; do sleep 0.01; done",
    );
    await service.signal(id, Signal.TERM);
    const { stdout, exitCode } = await collect(responses);
    equal(stdout, "caught\n");
    equal(exitCode, 7);
    await rejects(service.signal("nobody", Signal.TERM), { code: "not-found" });
  }));

Deno.test("standard input reaches the program, also when it comes before the program runs", () =>
  withService(async (service) => {
    const responses = service.run(
      bash("sha256sum | cut -c1-8", { options: { stdinStream: true, executionId: "in" } }),
      forever,
    );
    await responses.next();
    const rest = collect(responses);
    async function* input() {
      yield create(InputRequestSchema, { executionId: "in" });
      for (let i = 0; i < 100; i++) {
        yield create(InputRequestSchema, { data: new Uint8Array(10_000) });
      }
    }
    const { acceptedBytes } = await service.input(input(), forever);
    equal(acceptedBytes, 1_000_000n);
    equal((await rest).stdout, "d29751f2\n");
  }));

Deno.test("a program that runs too long is ended by its own limit and by the service's", async () => {
  const slow = "echo go; sleep 1000";
  await withService(async (service) => {
    const { last } = await collect(
      service.run(bash(slow, { options: { timeout: durationFromMs(50) } }), forever),
    );
    equal(last.outcome?.kind, Kind.TIMED_OUT);
  });
  await withService(async (service, store) => {
    const { last } = await collect(service.run(bash(slow), forever));
    equal(last.outcome?.kind, Kind.TIMED_OUT);
    equal(store.list()[0]?.outcome, "timed-out");
  }, { limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 2000 } });
});

Deno.test("a machine that dies ends the run with the reason", () =>
  withService(async (service, store, machines) => {
    const { id, responses } = await startedRun(service, "echo go; sleep 1000");
    machines.crash();
    await rejects(collect(responses), { code: "guest", message: /the microVM ended: the agent's/ });
    equal(store.get(id)?.outcome, "error");
  }));

Deno.test("a machine that cannot be made ends the run with the reason", () =>
  withService(async (service, store) => {
    await rejects(collect(service.run(bash("true"), forever)), /no machine today/);
    equal(store.list()[0]?.outcome, "error");
  }, { node: testNode(() => Promise.reject(new Error("no machine today"))) }));

Deno.test("runs wait for a place in their order, and a full queue refuses", () =>
  withService(
    async (service, store) => {
      const first = await startedRun(service, "echo go; sleep 1000");
      const order: string[] = [];
      const waiting = ["a", "b"].map(async (id) => {
        const request = bash("true", { options: { executionId: id } });
        await collect(service.run(request, forever));
        order.push(id);
      });
      while (service.admission.queued < 2) await new Promise((resolve) => setTimeout(resolve, 1));
      await rejects(collect(service.run(bash("true"), forever)), { code: "exhausted" });
      equal(store.list().length, 3);
      await service.stop(first.id);
      await collect(first.responses);
      await Promise.all(waiting);
      deepEqual(order, ["a", "b"]);
    },
    {},
    { machines: 1, queue: 2 },
  ));

Deno.test("closing asks programs to end, then ends them, and takes no new run", () =>
  withService(async (service) => {
    const polite = await startedRun(
      service,
      "trap 'echo bye; exit 0' TERM; echo go; sleep 1000 & wait",
    );
    const deaf = await startedRun(service, "trap '' TERM; echo go; while :; do sleep 0.05; done");
    const ends = [collect(polite.responses), collect(deaf.responses)] as const;
    const closed = service.close(1000);
    await rejects(collect(service.run(bash("true"), forever)), { code: "unavailable" });
    equal((await ends[0]).stdout, "bye\n");
    equal((await ends[1]).exitCode, 137);
    await closed;
  }));
