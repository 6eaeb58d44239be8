import assert from "node:assert/strict";
import { silentProgress } from "./progress.ts";
import type { Progress } from "./progress.ts";
import { type Caller, SharedWork } from "./shared_work.ts";

/** A caller that can give up, and what it heard. */
function caller() {
  const abort = new AbortController();
  const heard: string[] = [];
  const progress: Progress = {
    task(title) {
      heard.push(title);
      return {
        advance: (amount) => heard.push(`${title} +${amount}`),
        note: (text) => heard.push(`${title}: ${text}`),
        done: (summary) => heard.push(`${title} done${summary === undefined ? "" : ` ${summary}`}`),
        [Symbol.dispose]: () => heard.push(`${title} over`),
      };
    },
    info: (message) => heard.push(message),
    [Symbol.dispose]: () => heard.push("closed"),
  };
  return { abort, heard, who: { signal: abort.signal, progress } };
}

/** Work that ends when it is told to. */
function steered() {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const seen: Caller[] = [];
  const work = (own: Caller) => {
    seen.push(own);
    own.signal.addEventListener("abort", () => reject(own.signal.reason));
    return promise;
  };
  return { work, seen, resolve, reject };
}

Deno.test("callers of the same work share it, of other work not", async () => {
  await using shared = new SharedWork({ abandoned: 0 });
  const { work, seen, resolve } = steered();
  const other = steered();
  const both = [shared.share("a", caller().who, work), shared.share("a", caller().who, work)];
  const third = shared.share("b", caller().who, other.work);
  assert.deepEqual([seen.length, other.seen.length, shared.size], [1, 1, 2]);
  resolve("done");
  other.resolve("other");
  assert.deepEqual(await Promise.all([...both, third]), ["done", "done", "other"]);
  assert.equal(shared.size, 0);
  const again = steered();
  const more = shared.share("a", caller().who, again.work); // nothing is remembered
  again.resolve("again");
  assert.equal(await more, "again");
});

Deno.test("a caller that gives up leaves at once, and the work goes on for the others", async () => {
  await using shared = new SharedWork({ abandoned: 0 });
  const { work, seen, resolve } = steered();
  const [first, second] = [caller(), caller()];
  const left = assert.rejects(shared.share("a", first.who, work), /^Error: enough$/);
  const stays = shared.share("a", second.who, work);
  first.abort.abort(new Error("enough"));
  await left;
  assert.equal(seen[0]!.signal.aborted, false);
  resolve("done");
  assert.equal(await stays, "done");
  await assert.rejects(shared.share("a", first.who, work), /^Error: enough$/);
});

Deno.test("work that nobody waits for is ended, unless some may go on for the next caller", async () => {
  const leave = async (shared: SharedWork, key: string, work: (own: Caller) => Promise<string>) => {
    const { abort, who } = caller();
    const left = assert.rejects(shared.share(key, who, work), /enough/);
    abort.abort(new Error("enough"));
    await left;
  };
  {
    await using shared = new SharedWork({ abandoned: 0 });
    const { work, seen } = steered();
    await leave(shared, "a", work);
    assert.equal(seen[0]!.signal.aborted, true);
    const next = steered(); // not the one that ends
    const result = shared.share("a", caller().who, next.work);
    next.resolve("anew");
    assert.equal(await result, "anew");
  }
  await using shared = new SharedWork({ abandoned: 2 });
  const works = [steered(), steered(), steered()];
  await leave(shared, "0", works[0]!.work);
  await leave(shared, "1", works[1]!.work);
  assert.deepEqual(works.map(({ seen }) => seen[0]?.signal.aborted), [false, false, undefined]);
  const found = shared.share("0", caller().who, () => Promise.reject(new Error("begun twice")));
  await leave(shared, "2", works[2]!.work);
  assert.deepEqual(works.map(({ seen }) => seen[0]!.signal.aborted), [false, false, false]);
  works[0]!.resolve("it went on");
  assert.equal(await found, "it went on");
  await leave(shared, "3", steered().work);
  assert.deepEqual(works.map(({ seen }) => seen[0]!.signal.aborted), [false, true, false]);
});

Deno.test("work that fails fails for all that wait, and is begun anew", async () => {
  await using shared = new SharedWork({ abandoned: 1 });
  const { work, reject } = steered();
  const both = [shared.share("a", caller().who, work), shared.share("a", caller().who, work)];
  const failed = Promise.all(both.map((one) => assert.rejects(one, /broke/)));
  reject(new Error("it broke"));
  await failed;
  assert.equal(await shared.share("a", caller().who, () => Promise.resolve("new")), "new");
  // also when nobody is there to hear of it
  const unheard = steered();
  const { abort, who } = caller();
  const left = assert.rejects(shared.share("b", who, unheard.work), /enough/);
  abort.abort(new Error("enough"));
  await left;
  unheard.reject(new Error("unheard"));
});

Deno.test("each caller hears of the work while it waits, also of what began before", async () => {
  await using shared = new SharedWork({ abandoned: 0 });
  const { work, seen, resolve } = steered();
  const [first, second] = [caller(), caller()];
  const left = assert.rejects(shared.share("a", first.who, work), /enough/);
  const { progress } = seen[0]!;
  {
    using task = progress.task("Fetch");
    task.advance(3);
    task.note("a file");
    const stays = shared.share("a", second.who, work);
    task.advance(4);
    first.abort.abort(new Error("enough"));
    await left;
    task.done("7 bytes");
    progress.info("remark");
    resolve("done");
    assert.equal(await stays, "done");
  }
  const begun = ["Fetch", "Fetch +3", "Fetch: a file", "Fetch +4"];
  assert.deepEqual(first.heard, [...begun, "Fetch over"]);
  assert.deepEqual(second.heard, [...begun, "Fetch done 7 bytes", "remark", "Fetch over"]);
});

Deno.test("closing ends all work, waits for it, and takes no more", async () => {
  const shared = new SharedWork({ abandoned: 5 });
  const cleaned = Promise.withResolvers<void>();
  let over = false;
  const work = async ({ signal }: Caller) => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    await cleaned.promise;
    over = true;
    signal.throwIfAborted();
  };
  const waiting = assert.rejects(
    shared.share("a", { signal: new AbortController().signal, progress: silentProgress }, work),
    { code: "cancelled" },
  );
  const closing = shared[Symbol.asyncDispose]().then(() => assert.equal(over, true));
  cleaned.resolve();
  await waiting;
  await closing;
  await assert.rejects(shared.share("a", caller().who, work), { code: "unavailable" });
});
