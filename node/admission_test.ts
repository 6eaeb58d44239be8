import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { Admission, type AdmissionLimits, type Lease } from "./admission.ts";
import { settled } from "../test/settled.ts";

const forever = new AbortController().signal;

function admission(limits: Partial<AdmissionLimits> = {}): Admission {
  return new Admission({ machines: 2, memory: 1000, queue: 3, wait: 60_000, ...limits });
}

/** Asks for places, and notes in which order they are given. */
function asker(shared: Admission) {
  const admitted: string[] = [];
  const leases = new Map<string, Lease>();
  return {
    admitted,
    async ask(name: string, memory = 1, signal = forever): Promise<void> {
      const lease = await shared.acquire(memory, signal);
      admitted.push(name);
      leases.set(name, lease);
    },
    give: (name: string) => leases.get(name)![Symbol.dispose](),
  };
}

/** Lets everything that was settled be heard. */
const heard = () => new Promise((resolve) => setTimeout(resolve, 0));

Deno.test("places are given up to the limits, and given back once", async () => {
  const shared = admission();
  const first = await shared.acquire(400, forever);
  const second = await shared.acquire(600, forever);
  deepEqual([shared.machines, shared.memory, shared.queued], [2, 1000, 0]);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  deepEqual([shared.machines, shared.memory], [1, 600]);
  second[Symbol.dispose]();
  deepEqual([shared.machines, shared.memory], [0, 0]);
});

Deno.test("who comes first is admitted first, and none overtakes", async () => {
  const shared = admission();
  const { ask, give, admitted } = asker(shared);
  await ask("a", 500);
  await ask("b", 500);
  const waiting = [ask("large", 900), ask("small", 1)];
  give("a");
  await heard();
  deepEqual(admitted, ["a", "b"]); // the small one would fit, but the large one came first
  equal(shared.queued, 2);
  give("b");
  await settled(Promise.all(waiting));
  deepEqual(admitted, ["a", "b", "large", "small"]);
});

Deno.test("who comes while others wait does not overtake them, though there is a place", async () => {
  const shared = admission({ memory: 10 });
  const { ask, give, admitted } = asker(shared);
  await ask("a", 5);
  const large = ask("large", 10);
  const small = ask("small", 1);
  await heard();
  deepEqual(admitted, ["a"]);
  give("a");
  await settled(large);
  give("large");
  await settled(small);
});

Deno.test("a wait ends when it is given up, with the reason", async () => {
  const shared = admission({ machines: 1 });
  const { ask, give, admitted } = asker(shared);
  await ask("a");
  const leaving = new AbortController();
  const refused = rejects(settled(ask("b", 1, leaving.signal)), /^Error: enough$/);
  const stays = ask("c");
  equal(shared.queued, 2);
  leaving.abort(new Error("enough"));
  await refused;
  equal(shared.queued, 1);
  give("a");
  await settled(stays);
  deepEqual(admitted, ["a", "c"]);
  equal(shared.machines, 1, "nobody holds a place for the one that gave up");
  await rejects(shared.acquire(1, leaving.signal), /^Error: enough$/);
});

Deno.test("those behind one that gives up are admitted if there is room for them", async () => {
  const shared = admission({ machines: 3, memory: 10 });
  const { ask, admitted } = asker(shared);
  await ask("a", 5);
  const leaving = new AbortController();
  const large = rejects(ask("large", 10, leaving.signal), /enough/);
  const behind = [ask("b", 2), ask("c", 3)];
  await heard();
  deepEqual(admitted, ["a"]);
  leaving.abort(new Error("enough"));
  await large;
  await settled(Promise.all(behind));
  deepEqual(admitted, ["a", "b", "c"]);
});

Deno.test("a wait that is too long ends, and lets those behind in", async () => {
  const shared = admission({ machines: 2, memory: 10, wait: 50 });
  const { ask, give, admitted } = asker(shared);
  await ask("a", 5);
  const large = rejects(settled(ask("large", 10)), {
    code: "exhausted",
    message: /within 0\.05 s/,
  });
  await large;
  deepEqual([shared.queued, admitted], [0, ["a"]]);
  give("a");
  await ask("b", 10);
  equal(shared.machines, 1);
});

Deno.test("the limit of the wait ends nothing that was admitted", async () => {
  const shared = admission({ machines: 1, wait: 50 });
  const { ask, give, admitted } = asker(shared);
  await ask("a");
  const second = ask("b");
  give("a");
  await settled(second);
  await new Promise((resolve) => setTimeout(resolve, 100)); // its wait would be over
  deepEqual([admitted, shared.machines, shared.queued], [["a", "b"], 1, 0]);
});

Deno.test("what never fits, and what comes to a full queue, is refused at once", async () => {
  const shared = admission({ machines: 1, queue: 1 });
  throws(() => shared.check(1001), { code: "invalid-input", message: /asks for 1001 MiB/ });
  await rejects(shared.acquire(1001, forever), { code: "invalid-input" });
  const { ask, give } = asker(shared);
  await ask("a");
  shared.check(1); // it is worth waiting
  const waiting = ask("b");
  throws(() => shared.check(1), { code: "exhausted", message: /1 are running and 1 wait/ });
  await rejects(settled(ask("c")), { code: "exhausted" });
  give("a");
  await settled(waiting);
  equal(shared.machines, 1);
});
