import assert from "node:assert/strict";
import { LONG } from "../../test/long.ts";
import { type Litmus, litmusMemory, observe } from "./barrier_testing.ts";

const MODULE = new URL("./barrier_testing.ts", import.meta.url);

/** In how many rounds each of two threads loaded what was there before the other one's store. */
async function bothOld(side: Litmus["side"], before: number): Promise<number> {
  const buffer = litmusMemory();
  const worker = new Worker(MODULE, { type: "module" });
  try {
    const played = Promise.withResolvers<Uint8Array>();
    worker.onmessage = ({ data }) => played.resolve(data);
    worker.onerror = (event) => played.reject(new Error(event.message));
    worker.postMessage({ buffer, side } satisfies Litmus);
    const mine = observe(buffer, before);
    const theirs = await played.promise;
    return mine.reduce((sum, value, i) => sum + Number(value === before && theirs[i] === 0), 0);
  } finally {
    worker.terminate();
  }
}

// Store buffering, as litmus tests call it: a full barrier between the store and the load of each
// thread lets at least one of them see the other's store. With plain stores a round in 50,000 fails,
// so that it takes many rounds, and two processors that are free.
for (const [side, before] of [["raise", 0], ["clear", 1]] as const) {
  Deno.test({
    name: `ImmediateExit.${side}: no load that follows is done before it`,
    ignore: !LONG,
    fn: async () => assert.equal(await bothOld(side, before), 0),
  });
}
