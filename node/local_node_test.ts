import assert from "node:assert/strict";
import { silentProgress } from "../base/progress.ts";
import { ExecuteRequest_Action as Action } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { HostProcessMachines } from "../test/host_process_machine.ts";
import { PLAIN_IMAGE } from "./boot_parts.ts";
import { LocalNode } from "./local_node.ts";
import type { HostMachineFactory } from "./host_machine.ts";
import type { CreateEvent, Machine, MachineImage, MachineRequest } from "./node.ts";
import { settled } from "../test/settled.ts";

const REQUEST: MachineRequest = {
  id: "m",
  language: "bash",
  memory: 64,
  vcpus: 1,
  packages: [],
};

const FILE = { path: "etc/x", content: new Uint8Array(), mode: 0o644 };

function nodeOf(
  factory: HostMachineFactory,
  {
    prewarmed = 0,
    memory = 1000,
    machines = 10,
    queue = 10,
    image = undefined as
      | MachineImage
      | undefined,
  } = {},
): LocalNode {
  return new LocalNode({
    machines: () => factory,
    admission: { machines, memory, queue, wait: 1e6 },
    prewarmed: [{ language: "bash", image, count: prewarmed, memory: 64 }],
    progress: silentProgress,
  });
}

async function make(
  events: AsyncIterable<CreateEvent>,
  seen: string[] = [],
): Promise<Machine> {
  for await (const event of events) {
    seen.push(event.kind);
    if (event.kind === "machine") return event.machine;
    structuredClone(event); // throws where something is not plain data
  }
  throw new Error("there is no machine");
}

async function run(machine: Machine, code: string, signal?: AbortSignal): Promise<string> {
  let text = "";
  const request = { language: "bash", code, action: Action.PREPARE_AND_RUN };
  for await (const { stdout } of machine.execute(request, signal && { signal })) {
    text += stdout ?? "";
  }
  return text;
}

Deno.test("a machine comes after what happened, has many executions and outlives them", async () => {
  await using machines = new HostProcessMachines();
  await using node = nodeOf(machines.factory);
  const seen: string[] = [];
  structuredClone(REQUEST);
  await using machine = await make(node.create(REQUEST), seen);
  assert.deepEqual(seen, ["admitted", "task", "done", "dropped", "machine"]);
  assert.deepEqual(structuredClone(machine.facts), {
    id: "m",
    program: undefined,
    prepared: false,
    keepable: false,
    forkable: false,
  });
  assert.deepEqual([node.capacity.machines, node.capacity.memory], [1, 64]);
  const all = await Promise.all([run(machine, "echo 1"), run(machine, "echo 2")]);
  assert.deepEqual(all, ["1\n", "2\n"]);
  assert.equal(await run(machine, "echo 3"), "3\n");
  assert.throws(() => machine.fork({ id: "f", execution: "x" }), { code: "conflict" });
  await assert.rejects(async () => {
    for await (const _ of machine.keep()) { /* it cannot be */ }
  }, { code: "conflict" });
  await machine.end();
  await machine.end();
  assert.deepEqual([node.capacity.machines, machines.running], [0, 0]);
});

Deno.test("a machine says what can be done with it", async () => {
  await using machines = new HostProcessMachines();
  const signals: (AbortSignal | undefined)[] = [];
  const keep = (call?: { readonly signal: AbortSignal }) => {
    signals.push(call?.signal);
    return Promise.resolve(true);
  };
  const fork = ({ signal }: { readonly signal: AbortSignal }) => {
    signals.push(signal);
    return Promise.reject(new Error("no room"));
  };
  await using node = nodeOf(async (request) => {
    const host = await machines.factory(request);
    return {
      ...{ agent: host.agent, ended: host.ended, console: () => "", prepared: true, keep, fork },
      [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
    };
  });
  await using machine = await make(node.create(REQUEST));
  const { prepared, keepable, forkable } = machine.facts;
  assert.deepEqual([prepared, keepable, forkable], [true, true, true]);
  const kept: unknown[] = [];
  const abort = new AbortController();
  for await (const event of machine.keep({ signal: abort.signal })) kept.push(event);
  assert.deepEqual(kept, [{ kind: "kept", kept: true }]);
  const options = { signal: abort.signal };
  await assert.rejects(make(machine.fork({ id: "f", execution: "x" }, options)), /no room/);
  abort.abort();
  assert.deepEqual(signals.map((signal) => signal?.aborted), [true, true]);
});

Deno.test("a machine that ends by itself says so, and keeps its place until it is ended", async () => {
  await using machines = new HostProcessMachines();
  await using node = nodeOf(machines.factory);
  await using machine = await make(node.create(REQUEST));
  machines.crash();
  assert.match(await machine.ended, /ended/);
  assert.equal(node.capacity.machines, 1);
});

Deno.test("a prewarmed VM goes to the request that it fits, with its place", async () => {
  await using machines = new HostProcessMachines();
  await using node = nodeOf(machines.factory, { prewarmed: 2, machines: 2 });
  await node.pool.filled();
  assert.deepEqual(node.capacity.idle, { machines: 2, memory: 128 });
  const seen: string[] = [];
  await using _first = await make(node.create(REQUEST), seen);
  assert.deepEqual(seen, ["admitted", "machine"]);
  await node.pool.filled();
  assert.deepEqual([node.capacity.machines, node.capacity.idle.machines, machines.count], [
    1,
    1,
    2,
  ]);

  // For another request it gives way: two machines are all that there may be.
  await using _second = await make(node.create({ ...REQUEST, memory: 65 }));
  assert.deepEqual([node.capacity.machines, node.capacity.idle.machines], [2, 0]);
  assert.equal(machines.running, 2);
});

Deno.test("a prewarmed VM of a version is for requests of that version", async () => {
  await using machines = new HostProcessMachines();
  const image = { ...PLAIN_IMAGE, version: "5.2" };
  await using node = nodeOf(machines.factory, { prewarmed: 1, image });
  await node.pool.filled();
  await using _other = await make(node.create(REQUEST));
  assert.equal(node.pool.waiting.prewarmed, 1);
  await using _machine = await make(node.create({ ...REQUEST, image: { ...image } }));
  await node.pool.filled();
  assert.equal(machines.count, 3, "the one that waited was taken, and another made");
});

for (
  const [what, other] of [
    ["language", { language: "python" }],
    ["memory", { memory: 65 }],
    ["number of processors", { vcpus: 2 }],
    ["package", { packages: ["x"] }],
    ["layer", { layer: "l" }],
    ["image", { image: { ...PLAIN_IMAGE, from: "docker.io/library/x:1" } }],
    ["version", { image: { ...PLAIN_IMAGE, version: "5.2" } }],
    ["file in its image", { image: { ...PLAIN_IMAGE, files: [FILE] } }],
    ["need of its interpreter", { needs: { entryPoint: "a", files: [] } }],
  ] as [string, Partial<MachineRequest>][]
) {
  Deno.test(`a prewarmed VM is not for a request with another ${what}`, async () => {
    await using machines = new HostProcessMachines();
    await using node = nodeOf(machines.factory, { prewarmed: 1 });
    await node.pool.filled();
    await using _machine = await make(node.create({ ...REQUEST, ...other }));
    assert.equal(node.pool.waiting.prewarmed, 1);
  });
}

Deno.test("a call that was cancelled ends when nothing is left of it, and then its place is free", async () => {
  await using machines = new HostProcessMachines();
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  // Deaf: it hears of no abort, as a system call would not.
  await using node = nodeOf(async (request) => {
    begun.resolve();
    await goOn.promise;
    return await machines.factory({ ...request, signal: new AbortController().signal });
  }, { machines: 1 });
  const abort = new AbortController();
  const making = make(node.create(REQUEST, { signal: abort.signal }));
  await begun.promise;
  abort.abort(new Error("enough"));
  assert.equal(node.capacity.machines, 1, "it is still being made");
  const next = make(node.create({ ...REQUEST, id: "next" }));
  goOn.resolve();
  await assert.rejects(settled(making), /enough/);
  await using _next = await next;
  assert.equal(machines.running, 1, "the one that was given up was ended");
});

Deno.test("a caller that leaves the loop, or the queue, leaves nothing behind", async () => {
  await using machines = new HostProcessMachines();
  await using node = nodeOf(machines.factory, { machines: 1 });
  for await (const event of node.create(REQUEST)) {
    if (event.kind === "task") break;
  }
  assert.deepEqual([node.capacity.machines, machines.running], [0, 0], "once the loop is left");
  {
    await using _machine = await make(node.create({ ...REQUEST, id: "other" }));
    const abort = new AbortController();
    const waiting = make(node.create({ ...REQUEST, id: "third" }, { signal: abort.signal }));
    assert.equal(node.capacity.queued, 1);
    abort.abort(new Error("enough"));
    await assert.rejects(settled(waiting), /enough/);
    assert.equal(node.capacity.queued, 0);
  }
  assert.deepEqual([node.capacity.machines, machines.running], [0, 0]);
});

Deno.test("a call that was cancelled before it began makes nothing", async () => {
  let made = 0;
  await using node = nodeOf(() => {
    made++;
    return Promise.reject(new Error("made"));
  });
  const signal = AbortSignal.abort(new Error("no"));
  await assert.rejects(make(node.create(REQUEST, { signal })), /no/);
  assert.equal(made, 0);
});

Deno.test("closing a node waits for the machine that is being made for a caller that has gone", async () => {
  await using machines = new HostProcessMachines();
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  const node = nodeOf(async (request) => {
    begun.resolve();
    await goOn.promise;
    return await machines.factory({ ...request, signal: new AbortController().signal });
  });
  const events = node.create(REQUEST)[Symbol.asyncIterator]();
  await events.next(); // and no more of them
  await begun.promise;
  let closed = false;
  const closing = node[Symbol.asyncDispose]().then(() => closed = true);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(closed, false);
  goOn.resolve();
  await closing;
  assert.equal(machines.running, 0);
});

Deno.test("a machine whose caller gave up, and takes no more events, is ended", async () => {
  await using machines = new HostProcessMachines();
  await using node = nodeOf(machines.factory);
  const abort = new AbortController();
  const events = node.create(REQUEST, { signal: abort.signal })[Symbol.asyncIterator]();
  await events.next(); // and then it stalls
  while (machines.running === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  abort.abort(new Error("enough"));
  while (node.capacity.machines > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(machines.running, 0);
});

Deno.test("a factory that fails gives the place back, and what never fits is refused", async () => {
  await using node = nodeOf(() => Promise.reject(new Error("no kernel")), { memory: 100 });
  const seen: string[] = [];
  await assert.rejects(make(node.create(REQUEST), seen), /no kernel/);
  assert.deepEqual(seen, ["admitted"]);
  assert.deepEqual([node.capacity.machines, node.capacity.memory], [0, 0]);
  await assert.rejects(make(node.create({ ...REQUEST, memory: 101 })), { code: "invalid-input" });
});

Deno.test("a node that is closed ends its machines, and what is being made", async () => {
  await using machines = new HostProcessMachines();
  const node = nodeOf(machines.factory, { prewarmed: 1 });
  await node.pool.filled();
  await make(node.create({ ...REQUEST, memory: 65 }));
  const making = assert.rejects(make(node.create({ ...REQUEST, memory: 66 })), {
    code: "unavailable",
  });
  await node[Symbol.asyncDispose]();
  await making;
  assert.equal(machines.running, 0);
  await assert.rejects(make(node.create(REQUEST)), { code: "unavailable" });
});
