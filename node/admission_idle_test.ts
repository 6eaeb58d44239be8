/** Places of what waits for requests; those of requests are in the tests beside the service. */
import assert from "node:assert/strict";
import { Admission } from "./admission.ts";

const { signal } = new AbortController();

function admission(): Admission {
  return new Admission({ machines: 3, memory: 100, queue: 2, wait: 1e6 });
}

const cost = (memory: number, machines = 0) => ({ memory, machines });

Deno.test("what is idle is counted, is no reason to refuse, and gives way to a request", async () => {
  const all = admission();
  let evicted = 0;
  const lease = all.reserve({ cost: cost(80, 1), rank: 0, evict: () => evicted++ })!;
  assert.deepEqual(all.idle, { machines: 1, memory: 80 });
  assert.deepEqual([all.machines, all.memory], [0, 0]);
  all.check(100);
  using _first = await all.acquire(20, signal);
  assert.equal(evicted, 0);
  const second = all.acquire(30, signal);
  const third = all.acquire(10, signal);
  assert.deepEqual([evicted, all.queued], [1, 2]);
  assert.equal(lease.claim(), undefined, "it is on its way out");
  lease[Symbol.dispose]();
  lease[Symbol.dispose]();
  using _second = await second;
  using _third = await third;
  assert.deepEqual([all.machines, all.memory, all.idle.memory], [3, 60, 0]);
});

Deno.test("without a queue a request waits for what is idle, and for nothing else", async () => {
  const all = new Admission({ machines: 3, memory: 100, queue: 0, wait: 1e6 });
  const idle = all.reserve({
    cost: cost(80, 1),
    rank: 0,
    evict: () => void Promise.resolve().then(() => idle[Symbol.dispose]()),
  })!;
  using _lease = await all.acquire(90, signal);
  assert.throws(() => all.check(20), { code: "exhausted" });
});

Deno.test("nothing is reserved while a request waits, or without room", async () => {
  const all = admission();
  const reserve = (memory: number, machines = 0) =>
    all.reserve({ cost: cost(memory, machines), rank: 0, evict() {} });
  assert.equal(reserve(101), undefined);
  assert.equal(reserve(1, 4), undefined);
  const run = await all.acquire(90, signal);
  const waiting = all.acquire(20, signal);
  assert.equal(reserve(5), undefined);
  let room = 0;
  {
    using _listening = all.whenRoom(() => room++);
    run[Symbol.dispose]();
    (await waiting)[Symbol.dispose]();
  }
  assert.equal(room, 2);
  using _idle = reserve(100, 3)!;
  assert.equal(room, 2);
});

Deno.test("what a request takes over is a place like any other", async () => {
  const all = admission();
  const idle = all.reserve({ cost: cost(60, 1), rank: 0, evict: () => assert.fail() })!;
  const lease = idle.claim()!;
  idle[Symbol.dispose](); // no longer its own
  assert.deepEqual([all.machines, all.memory, all.idle.memory], [1, 60, 0]);
  const waiting = all.acquire(50, signal);
  assert.equal(all.queued, 1);
  lease[Symbol.dispose]();
  using _lease = await waiting;
  assert.deepEqual([all.machines, all.memory], [1, 50]);
});
