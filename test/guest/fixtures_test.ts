import { equal, throws } from "node:assert/strict";
import { hasKvm } from "./fixtures.ts";

Deno.test("guest tests are ignored without KVM on a desk, and fail in CI", () => {
  const before = Deno.env.get("CI");
  try {
    Deno.env.delete("CI");
    equal(hasKvm("/nonexistent/kvm"), false);
    Deno.env.set("CI", "true");
    throws(() => hasKvm("/nonexistent/kvm"), /CI needs it/);
  } finally {
    if (before === undefined) Deno.env.delete("CI");
    else Deno.env.set("CI", before);
  }
});
