import assert from "node:assert/strict";
import type { Progress } from "../base/progress.ts";
import {
  eventProgress,
  isProgress,
  type ProgressEvent,
  progressQueue,
  ProgressReporter,
} from "./progress_events.ts";

/** Writes down what it hears. */
function recorder(heard: unknown[]): Progress {
  let tasks = 0;
  return {
    task(title, options) {
      const task = ++tasks;
      heard.push(["task", task, title, { ...options }]);
      return {
        advance: (amount) => void heard.push(["advance", task, amount]),
        note: (text) => void heard.push(["note", task, text]),
        done: (summary) => void heard.push(["done", task, summary]),
        [Symbol.dispose]: () => void heard.push(["dropped", task]),
      };
    },
    info: (message) => void heard.push(["info", message]),
    [Symbol.dispose]() {},
  };
}

function work(progress: Progress): void {
  using fetch = progress.task("Fetch", { total: 7, unit: "bytes" });
  using unpack = progress.task("Unpack");
  fetch.advance(3);
  unpack.note("a");
  progress.info("a remark");
  fetch.advance(4);
  fetch.done("all of it");
  unpack.note("b");
}

Deno.test("progress is the same on the other side of plain events", () => {
  const [direct, events]: [unknown[], ProgressEvent[]] = [[], []];
  work(recorder(direct));
  work(eventProgress((event) => events.push(structuredClone(event))));
  const heard: unknown[] = [];
  using reporter = new ProgressReporter(recorder(heard));
  for (const event of events) {
    assert.ok(isProgress(event));
    reporter.report(event);
  }
  assert.deepEqual(heard, direct);
  assert.equal(isProgress({ kind: "machine" }), false);
});

Deno.test("a task whose end was lost ends with the reporter, and one whose beginning was is left out", () => {
  const heard: unknown[] = [];
  {
    using reporter = new ProgressReporter(recorder(heard));
    reporter.report({ kind: "task", task: 1, title: "Fetch" });
    reporter.report({ kind: "advance", task: 2, amount: 1 });
    reporter.report({ kind: "done", task: 2 });
    reporter.report({ kind: "dropped", task: 2 });
    reporter.report({ kind: "task", task: 3, title: "Unpack" });
    reporter.report({ kind: "dropped", task: 3 });
    reporter.report({ kind: "advance", task: 3, amount: 1 }); // which has ended
  }
  assert.deepEqual(heard, [
    ["task", 1, "Fetch", {}],
    ["task", 2, "Unpack", {}],
    ["dropped", 2],
    ["dropped", 1],
  ]);
});

Deno.test("steps that nobody has read yet are one step, and there is a limit to the rest", async () => {
  const queue = progressQueue<{ readonly kind: "other"; readonly n: number }>();
  const progress = eventProgress((event) => queue.push(event));
  const task = progress.task("Fetch");
  for (let i = 0; i < 1000; i++) task.advance(2);
  for (let i = 0; i < 1000; i++) task.note(`${i}`);
  const read = async () => {
    const events = [];
    for await (const event of queue.during(Promise.resolve())) events.push(event);
    return events;
  };
  assert.deepEqual(await read(), [
    { kind: "task", task: 1, title: "Fetch" },
    { kind: "advance", task: 1, amount: 2000 },
    { kind: "note", task: 1, text: "999" },
  ]);
  const other = progress.task("Unpack");
  for (const one of [task, other, task]) {
    one.advance(1);
    one.note("a");
  }
  assert.equal((await read()).length, 7, "steps of different tasks stay apart");
  for (let n = 0; n < 2; n++) {
    task.advance(1);
    other.advance(1);
  }
  assert.equal((await read()).length, 4);
  for (let n = 0; n < 1000; n++) queue.push({ kind: "other", n });
  const events = await read();
  assert.equal(events.length, 256);
  assert.deepEqual(events.at(-1), { kind: "other", n: 999 });
});

Deno.test("events come while the work goes on, and before its error", async () => {
  const queue = progressQueue<never>();
  const goOn = Promise.withResolvers<void>();
  const work = (async () => {
    queue.push({ kind: "info", message: "1" });
    await goOn.promise;
    queue.push({ kind: "info", message: "2" });
    throw new Error("it broke");
  })();
  const stream = queue.during(work);
  assert.deepEqual((await stream.next()).value, { kind: "info", message: "1" });
  goOn.resolve();
  assert.deepEqual((await stream.next()).value, { kind: "info", message: "2" });
  await assert.rejects(stream.next(), /it broke/);
  // What comes between the end of the work and its being noticed is not lost.
  const late = queue.during(
    Promise.resolve("done").finally(() => {
      queueMicrotask(() => queue.push({ kind: "info", message: "3" }));
    }),
  );
  assert.deepEqual((await late.next()).value, { kind: "info", message: "3" });
  assert.deepEqual(await late.next(), { done: true, value: "done" });
});
