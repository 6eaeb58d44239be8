import assert from "node:assert/strict";
import { judgeNetwork } from "./doctor_network.ts";

Deno.test("doctor tells who is asked for names, and what to do where nobody is known", () => {
  const host = judgeNetwork(undefined, "nameserver 192.0.2.1\nnameserver 127.0.0.53\n");
  assert.equal(host.ok, "ok");
  assert.match(host.detail, /at 192\.0\.2\.1, 127\.0\.0\.53$/);
  assert.match(judgeNetwork("192.0.2.53:5353", "").detail, /at 192\.0\.2\.53:5353$/);
  const none = judgeNetwork(undefined, "nameserver 2001:db8::1\n");
  assert.equal(none.ok, "warn");
  assert.match(none.remedy ?? "", /resolver = /);
});
