import { equal, rejects } from "node:assert/strict";
import { runOver } from "./run.ts";
import { RunOfTransport } from "./run_stream.ts";
import { HostileAgent, saysAndWaits } from "../../test/hostile_agent.ts";
import { create } from "@bufbuild/protobuf";
import {
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { Language, RunVmmRequestSchema } from "../../proto/gen/vmmorchestrator/vmm_pb.ts";
import { Orchestrator } from "../../service/orchestrator.ts";
import { PreparedWorkloads } from "../../service/prepared.ts";
import { inMemoryTransport } from "../../service/routes.ts";
import { RunStore } from "../../service/run_store.ts";
import { testNode } from "../../test/test_node.ts";
import { settled } from "../../test/settled.ts";

const PROGRAM = { language: "bash", code: "true" } as const;
const RUNNING = create(ExecuteResponseSchema, { stage: Stage.RUNNING, stdout: "out" });

/** A service whose agent runs a program that goes on for ever. */
function service() {
  const agent = new HostileAgent({ Execute: saysAndWaits(RUNNING) });
  const orchestrator = new Orchestrator({
    node: testNode(() => Promise.resolve(agent.machine()), { machines: 1 }),
    store: RunStore.inMemory(),
    prepared: new PreparedWorkloads("/nowhere"),
    limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
  });
  return {
    orchestrator,
    run: () => runOver(inMemoryTransport(orchestrator), PROGRAM),
    agent,
    async [Symbol.asyncDispose]() {
      await orchestrator[Symbol.asyncDispose]();
      await agent[Symbol.asyncDispose]();
    },
  };
}

const NOT_STARTED = { code: "conflict", message: /nothing has started it/ };

Deno.test("a run that nobody iterates can be neither signalled nor forked, and says so", async () => {
  await using served = service();
  await using program = served.run();
  await rejects(settled(program.kill()), NOT_STARTED);
  await rejects(settled(program.fork().output()), NOT_STARTED);
  await rejects(settled(program.fork().fork().result), NOT_STARTED);
  equal(served.agent.asked.length, 0, "and it is not started by that");
});

Deno.test("a signal may be sent in the turn in which the run is iterated", async () => {
  await using served = service();
  await using program = served.run();
  const killed = settled(program.kill("TERM")); // before it runs: it never does
  equal((await settled(program.result)).outcome, "killed");
  await killed;
});

Deno.test("a run that was disposed, or that failed to start, settles what waits for it", async () => {
  await using served = service();
  const program = served.run();
  await program[Symbol.asyncDispose]();
  await rejects(settled(program.kill()), NOT_STARTED);
  await rejects(settled(program.result), { code: "cancelled" });
  await rejects(settled(program.kill()), { code: "cancelled" });
});

Deno.test("a fork asks the service that has its original, which is made once", async () => {
  await using served = service();
  let made = 0;
  const request = create(RunVmmRequestSchema, { language: Language.BASH, code: "true" });
  await using program = new RunOfTransport(
    { call: (client, signal) => Promise.resolve(client.run(request, { signal })) },
    () => {
      made++;
      return Promise.resolve(inMemoryTransport(served.orchestrator));
    },
  );
  const events = program[Symbol.asyncIterator]();
  while ((await settled(events.next())).value?.type !== "stdout") { /* until it runs */ }
  await rejects(settled(program.fork().output()), /cannot be copied/); // and not "not under way"
  equal(made, 1);
  await events.return!(undefined);
});
