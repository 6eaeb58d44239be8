import assert from "node:assert/strict";
import { CloudletError, messageOf } from "./errors.ts";

Deno.test("an error carries its kind, its remedy and its cause", () => {
  const cause = new TypeError("inner");
  const error = new CloudletError("Cannot do it: why", { code: "host", remedy: "do that", cause });
  assert.ok(error instanceof Error);
  assert.equal(`${error}`, "CloudletError: Cannot do it: why");
  assert.deepEqual([error.code, error.remedy, error.cause], ["host", "do that", cause]);
});

Deno.test("an error without a cause has none, not an undefined one", () => {
  const error = new CloudletError("Cannot do it: why", { code: "internal" });
  assert.equal("cause" in error, false);
  assert.equal(error.remedy, undefined);
});

Deno.test("whatever is thrown has a message", () => {
  assert.equal(messageOf(new Error("an error")), "an error");
  assert.equal(messageOf("text"), "text");
  assert.equal(messageOf(undefined), "undefined");
});
