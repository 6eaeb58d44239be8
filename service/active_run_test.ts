import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CloudletError } from "../base/errors.ts";
import {
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { ActiveRun } from "./active_run.ts";
import type { Machine } from "../node/node.ts";
import { RunStore } from "./run_store.ts";

const RUN = {
  id: "one",
  workloadName: "w",
  language: "bash",
  action: "run",
  memory: 256,
  vcpus: 1,
};
/** More than fits into a page of the database, so that it needs a new one. */
const LONG = "ü".repeat(4000);
const utf8 = new TextEncoder();

/** A run in a store whose disk can be filled up: SQLite then says SQLITE_FULL, as on a real one. */
function start(onEnd: () => void = () => {}) {
  const database = new DatabaseSync(":memory:");
  const store = RunStore.inMemory({ log: 1 << 20, runs: 10 }, database);
  store.add(RUN);
  const run = new ActiveRun(RUN.id, store, onEnd);
  return {
    store,
    run,
    /** Lets the database have no more pages than it has. */
    fillDisk: () => database.exec("PRAGMA max_page_count = 1"),
    freeDisk: () => database.exec("PRAGMA max_page_count = 1000000"),
    [Symbol.dispose]: () => store[Symbol.dispose](),
  };
}

const event = (fields: MessageInitShape<typeof ExecuteResponseSchema>) =>
  create(ExecuteResponseSchema, fields);

Deno.test("a store that is full keeps no run from ending, nor what belongs to it", async () => {
  let ends = 0;
  using started = start(() => ends++);
  const { run, store, fillDisk, freeDisk } = started;
  let disposed = 0;
  run.own({ [Symbol.dispose]: () => disposed++ });
  run.own({ [Symbol.asyncDispose]: () => Promise.resolve(void disposed++) });
  fillDisk();
  await run.end({ outcome: "error", message: LONG });
  deepEqual([disposed, ends, run.signal.aborted], [2, 1, true]);
  await run.ended;
  freeDisk();
  store.add({ ...RUN, id: "two" }); // there is room again: what was owed is written
  const { state, outcome, message, endedAt } = store.get("one")!;
  deepEqual([state, outcome, message], ["failed", "error", LONG]);
  ok(endedAt !== null);
});

Deno.test("what the agent says is not lost on the client because the store is full", () => {
  using started = start();
  const { run, store, fillDisk, freeDisk } = started;
  fillDisk();
  const output = new Uint8Array(100_000);
  run.note(event({ stage: Stage.RUNNING, stdoutBytes: output }));
  run.started();
  run.log("service", LONG.repeat(10));
  freeDisk();
  run.note(event({ stage: Stage.RUNNING, stdoutBytes: utf8.encode("kept") }));
  deepEqual([...store.logs("one")].map(({ data }) => data.length), [4]);
  equal(store.get("one")!.stdoutBytes, 100_004);
  equal(store.get("one")!.loggedBytes, 4);
});

Deno.test("a store that was closed keeps no run from ending", async () => {
  let ends = 0;
  const { run, store } = start(() => ends++);
  store[Symbol.dispose]();
  run.note(event({ stage: Stage.RUNNING, stdout: "x" }));
  await run.end({ outcome: "stopped" });
  equal(ends, 1);
});

Deno.test("an observer of the end that throws does not keep the run from having ended", async () => {
  using started = start(() => {
    throw new Error("no");
  });
  await started.run.end({ outcome: "stopped" });
  await started.run.ended;
});

Deno.test("what is owned is disposed at the end, the last first, even when one cannot be", async () => {
  using started = start();
  const { run } = started;
  const order: string[] = [];
  run.own({ [Symbol.dispose]: () => void order.push("first") });
  run.own({ [Symbol.asyncDispose]: () => Promise.reject(new Error("stuck")) });
  run.own({ [Symbol.dispose]: () => void order.push("last") });
  await run.end({ outcome: "stopped" });
  deepEqual(order, ["last", "first"]);
});

Deno.test("what is owned after the end is disposed at once", async () => {
  using started = start();
  const { run } = started;
  await run.end({ outcome: "stopped", message: "on request" });
  let disposed = 0;
  throws(() => run.own({ [Symbol.dispose]: () => disposed++ }), { code: "cancelled" });
  const slow = { [Symbol.asyncDispose]: () => Promise.resolve(void disposed++) };
  throws(() => run.own(slow), { code: "cancelled" });
  throws(
    () => run.own({ [Symbol.asyncDispose]: () => Promise.reject(new Error("stuck")) }),
    { code: "cancelled" },
  );
  equal(disposed, 2);
});

Deno.test("only the first end counts, and each call waits until all is gone", async () => {
  using started = start();
  const { run, store } = started;
  const gone = Promise.withResolvers<void>();
  run.own({ [Symbol.asyncDispose]: () => gone.promise });
  let over = 0;
  const ends = [
    run.end({ outcome: "exited", state: "done", exitCode: 3 }),
    run.end({ outcome: "disconnected" }),
    run.ended,
  ].map((end) => end.then(() => over++));
  run.fail(new CloudletError("Cannot go on", { code: "guest" }));
  await new Promise((resolve) => setTimeout(resolve, 0));
  equal(over, 0);
  // Written down at once: whoever hears of the end may ask for it.
  equal(store.get("one")!.outcome, "exited");
  gone.resolve();
  await Promise.all(ends);
  const { state, outcome, exitCode } = store.get("one")!;
  deepEqual([state, outcome, exitCode], ["done", "exited", 3]);
});

Deno.test("whoever waits for the program hears of it, or of the end before it", async () => {
  {
    using started = start();
    const { run } = started;
    const machine = {} as Machine; // it is passed on, not used
    run.agentKnows(machine, false);
    equal(run.machine, machine);
    run.agentKnows(machine, true);
    equal(await run.whenAgentKnows, machine);
    await run.end({ outcome: "exited" });
  }
  using started = start();
  const { run } = started;
  const waiting = rejects(run.whenAgentKnows, { code: "guest", message: /broke/ });
  run.fail(new CloudletError("Cannot go on: it broke", { code: "guest" }));
  await waiting;
  await run.ended;
  throws(() => run.signal.throwIfAborted(), { code: "guest" });
  equal(started.store.get("one")!.outcome, "error");
});

Deno.test("stages and output are written down as they come", () => {
  using started = start();
  const { run, store } = started;
  run.started();
  const states = [];
  for (const stage of [Stage.PENDING, Stage.BUILDING, Stage.DEBUG, Stage.RUNNING]) {
    run.note(event({ stage, stderr: `${stage}` }));
    states.push(store.get("one")!.state);
  }
  deepEqual(states, ["pending", "building", "building", "running"]);
  ok(store.get("one")!.startedAt !== null);
  equal(store.get("one")!.stderrBytes, 4);
});
