import assert from "node:assert/strict";
import { limitConcurrency, mapConcurrently } from "./concurrency.ts";

Deno.test("results come in the order of the items", async () => {
  const results = await mapConcurrently([3, 1, 2], undefined, async (item) => {
    for (let i = 0; i < item; i++) await Promise.resolve();
    return item * 10;
  });
  assert.deepEqual(results, [30, 10, 20]);
});

Deno.test("the first failure ends the rest, and is thrown when all have ended", async () => {
  const ended: string[] = [];
  const work = mapConcurrently(["fails", "waits"], undefined, async (item, signal) => {
    if (item === "fails") throw new Error("first");
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    ended.push(item);
    throw new Error("second");
  });
  await assert.rejects(work, /first/);
  assert.deepEqual(ended, ["waits"]);
});

Deno.test("the outer signal reaches all work", async () => {
  const abort = new AbortController();
  const work = mapConcurrently(
    [1, 2],
    abort.signal,
    (_, signal) =>
      new Promise<void>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason))
      ),
  );
  abort.abort(new Error("enough"));
  await assert.rejects(work, /enough/);
});

Deno.test("a limitConcurrency runs no more than its limit at once, and all in the end", async () => {
  const limited = limitConcurrency(3);
  let running = 0;
  let most = 0;
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) =>
      limited(async () => {
        most = Math.max(most, ++running);
        for (let k = 0; k <= i % 4; k++) await Promise.resolve();
        running--;
        if (i % 5 === 0) throw new Error("some fail");
        return i;
      })),
  );
  assert.equal(most, 3);
  assert.equal(results.filter(({ status }) => status === "fulfilled").length, 16);
});
