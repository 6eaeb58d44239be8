import assert from "node:assert/strict";
import { addShared, DEFAULT_LIMITS, ImageBudget, imageLimits } from "./limits.ts";

const limits = { bytes: 3 * 2 ** 20, entries: 4, time: 60_000 };

Deno.test("settings override the defaults one by one", () => {
  assert.deepEqual(imageLimits({}), DEFAULT_LIMITS);
  assert.deepEqual(imageLimits({ max_mib: 5 }), { ...DEFAULT_LIMITS, bytes: 5 * 2 ** 20 });
  assert.deepEqual(imageLimits({ max_entries: 5 }), { ...DEFAULT_LIMITS, entries: 5 });
  assert.deepEqual(imageLimits({ max_minutes: 0.5 }), { ...DEFAULT_LIMITS, time: 30_000 });
});

Deno.test("bytes are counted by all who add some, and the last may be used", () => {
  using budget = new ImageBudget("x", limits);
  budget.addBytes(2 * 2 ** 20);
  assert.equal(addShared(budget.bytes, 2 ** 20), true);
  assert.equal(budget.explain(0), 0);
  assert.equal(addShared(budget.bytes, 1), false);
  const refused = {
    code: "invalid-input",
    message: "Cannot make the image x: it has more than 3 MiB unpacked",
    remedy: /raise \[images\] max_mib in the settings/,
  };
  assert.throws(() => budget.addBytes(1), refused);
  assert.throws(() => {
    throw budget.explain(new Error("the worker gave up"));
  }, refused);
});

Deno.test("entries are counted, those with long names and attributes several times", () => {
  const refused = { code: "invalid-input", message: /more than 4 files/, remedy: /max_entries/ };
  using budget = new ImageBudget("x", limits);
  for (let i = 0; i < 4; i++) budget.addEntry(1000);
  assert.throws(() => budget.addEntry(0), refused);
  using other = new ImageBudget("x", limits);
  other.addEntry(3 * 1024);
  assert.throws(() => other.addEntry(0), refused);
});

Deno.test("the time is up, whoever looks", async () => {
  using budget = new ImageBudget("x", { ...limits, time: 10 });
  const refused = { code: "invalid-input", message: /takes over/, remedy: /max_minutes/ };
  await new Promise((resolve) => budget.signal.addEventListener("abort", resolve));
  assert.throws(() => {
    throw budget.explain(new Error("it was cancelled"));
  }, refused);
  assert.throws(() => budget.addEntry(0), refused);
});

Deno.test("a caller who gives up hears of that, not of a limit", () => {
  const abort = new AbortController();
  using budget = new ImageBudget("x", limits, abort.signal);
  abort.abort();
  assert.ok(budget.signal.aborted);
  const error = new Error("it was cancelled");
  assert.equal(budget.explain(error), error);
});
