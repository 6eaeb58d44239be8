/** A run with a network, on an agent of this host: when it is plugged in, and what is told of it. */
import assert from "node:assert/strict";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { HostMachineFactory } from "../node/host_machine.ts";
import type { MachineNetwork, MachineNetworkEvent } from "../node/network.ts";
import { EventQueue } from "../node/progress_events.ts";
import {
  type ExecuteResponse,
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  InputRequestSchema,
  NetworkEvent_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  Language,
  Network_Access as Access,
  NetworkRule_Action as Action,
  RunVmmRequestSchema,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import { HostProcessMachines } from "../test/host_process_machine.ts";
import { testNode } from "../test/test_node.ts";
import { checkedEvents } from "./agent_events.ts";
import { OWN_NETWORK } from "./network.ts";
import { Orchestrator } from "./orchestrator.ts";
import { RunStore } from "./run_store.ts";

const forever = new AbortController().signal;
const NETWORK = {
  access: Access.LISTED,
  rules: [{ action: Action.ALLOW, target: "a.example" }],
};
const DENIED: MachineNetworkEvent = {
  kind: "denied",
  what: "tcp",
  address: "203.0.113.7",
  port: 9,
};

/** Machines with a card: what they are given, and what happens in their network. */
class WithCard {
  readonly given: MachineNetwork[] = [];
  readonly events = new EventQueue<MachineNetworkEvent>();
  refuses: Error | undefined;

  readonly factory = (make: HostMachineFactory): HostMachineFactory => async (request) => {
    const machine = await make(request);
    return Object.assign(machine, {
      connect: (network: MachineNetwork) => {
        if (this.refuses) return Promise.reject(this.refuses);
        this.given.push(network);
        return Promise.resolve();
      },
      networkEvents: (end: Promise<unknown>) => this.events.during(end),
    });
  };
}

async function withService(
  test: (service: Orchestrator, card: WithCard, store: RunStore) => Promise<void>,
) {
  await using machines = new HostProcessMachines();
  const card = new WithCard();
  using store = RunStore.inMemory();
  await using service = new Orchestrator({
    node: testNode(card.factory(machines.factory)),
    store,
    prepared: machines.prepared,
    limits: {
      ...{ defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
      network: OWN_NETWORK,
    },
  });
  await test(service, card, store);
}

const bash = (code: string, more: MessageInitShape<typeof RunVmmRequestSchema> = {}) =>
  create(RunVmmRequestSchema, { language: Language.BASH, code, logLevel: 3, ...more });

Deno.test("a run without a network has none plugged in", () =>
  withService(async (service, card) => {
    const responses = await Array.fromAsync(service.run(bash("true"), forever));
    assert.deepEqual(card.given, []);
    assert.equal(responses.at(-1)?.exitCode, 0);
  }));

Deno.test("what is denied is told while the program waits, and is kept with its output", () =>
  withService(async (service, card, store) => {
    const request = bash("echo begins; read -r line; echo $line", {
      network: NETWORK,
      options: { stdinStream: true },
    });
    const seen: ExecuteResponse[] = [];
    let id = "";
    for await (const response of service.run(request, forever)) {
      seen.push(response);
      id ||= response.executionId;
      if (response.stdout === "begins\n") card.events.push(DENIED);
      if (response.network !== undefined) { // which came though the program says nothing
        const input = { executionId: id, data: new TextEncoder().encode("on\n"), end: true };
        void service.input(
          ReadableStream.from([create(InputRequestSchema, input)]),
          forever,
        );
      }
    }
    assert.deepEqual(card.given.map(({ policy }) => policy?.rules.map(({ text }) => text)), [
      ["a.example"],
    ]);
    const [event] = seen.flatMap(({ network }) => network ?? []);
    assert.equal(event?.kind, Kind.DENIED);
    assert.equal(event?.port, 9);
    assert.equal(seen.at(-1)?.exitCode, 0);
    const logs = [...store.logs(id)].filter(({ stream }) => stream === "service");
    assert.match(
      logs.map(({ data }) => new TextDecoder().decode(data)).join(""),
      /denied 203\.0\.113\.7:9: no rule allows it/,
    );
  }));

Deno.test("a published port is told as a remark, and is no word of the agent's", async () => {
  const forged = create(ExecuteResponseSchema, { network: { kind: Kind.DENIED } });
  async function* hostile() {
    yield await Promise.resolve(forged);
  }
  for await (const { network } of checkedEvents(hostile(), false)) assert.equal(network, undefined);
  await withService(async (service, card) => {
    card.events.push({ kind: "published", address: "127.0.0.1", port: 8080, guestPort: 80 });
    const responses = await Array.fromAsync(
      service.run(bash("sleep 0.1", { network: NETWORK }), forever),
    );
    const kinds = responses.flatMap(({ network, stage }) => network ? [[network.kind, stage]] : []);
    assert.deepEqual(kinds, [[Kind.PUBLISHED, Stage.DEBUG]]);
  });
});

Deno.test("a port that is taken ends the run before its program starts", () =>
  withService(async (service, card) => {
    card.refuses = new Error("Cannot publish the port on 127.0.0.1:80: it is taken");
    const request = bash("echo ran", { network: NETWORK });
    const responses: ExecuteResponse[] = [];
    await assert.rejects(async () => {
      for await (const response of service.run(request, forever)) responses.push(response);
    }, /it is taken/);
    assert(!responses.some(({ stdout }) => stdout));
  }));
