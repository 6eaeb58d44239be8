import assert from "node:assert/strict";
import { SharedWorkers } from "./shared_workers.ts";

/** Says that it is loaded; breaks on request. */
const MODULE = new URL(
  "data:text/javascript,self.onmessage=()=>{throw new Error('on request')};self.postMessage('loaded')",
);

/** Threads, with what became of each. */
function observed(capacity = 2) {
  const seen: { ended: boolean; worker: Worker }[] = [];
  const threads = new SharedWorkers(MODULE, capacity, (worker) => {
    const thread = { ended: false, worker };
    seen.push(thread);
    return () => ({
      post: (message) => worker.postMessage(message),
      end() {
        thread.ended = true;
        worker.terminate();
      },
    });
  });
  return { threads, seen };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((go) => setTimeout(go, 10));
  assert(condition());
}

Deno.test("tenants share a thread up to its capacity", async () => {
  const { threads, seen } = observed(2);
  const tenants = Array.from({ length: 3 }, () => threads.enter(assert.fail));
  await Promise.all(tenants.map(({ loaded }) => loaded));
  assert.equal(seen.length, 2);
  for (const tenant of tenants) tenant[Symbol.dispose]();
  await until(() => seen.every(({ ended }) => ended));
});

Deno.test("a thread ends with its last tenant", async () => {
  const { threads, seen } = observed();
  {
    using first = threads.enter(assert.fail);
    {
      using second = threads.enter(assert.fail);
      await second.loaded;
    }
    await first.loaded;
    assert.deepEqual(seen.map(({ ended }) => ended), [false]);
  }
  await until(() => seen[0]!.ended);
  using next = threads.enter(assert.fail);
  await next.loaded;
  assert.equal(seen.length, 2);
});

Deno.test("a thread that breaks tells its tenants, and gets no other one", async () => {
  const { threads, seen } = observed();
  const told = Promise.withResolvers<string>();
  using first = threads.enter(told.resolve);
  await first.loaded;
  first.post("break");
  assert.match(await told.promise, /on request/);
  using second = threads.enter(assert.fail);
  await second.loaded;
  assert.equal(seen.length, 2);
});
