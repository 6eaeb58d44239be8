import assert from "node:assert/strict";
import { awaitNetwork, gatewayIsReachable } from "./await_network.ts";

Deno.test("programs wait until the gateway can be reached, and no longer", async () => {
  let looks = 0;
  await awaitNetwork(new AbortController().signal, () => ++looks === 3);
  assert.equal(looks, 3);
  const left = new AbortController();
  const waiting = awaitNetwork(left.signal, () => {
    left.abort(new Error("the host left"));
    return false;
  });
  await assert.rejects(waiting, /the host left/);
});

Deno.test("a namespace without an address has no way to the gateway; one with a route has", async () => {
  const look = async (script: string) => {
    const program = new URL("await_network.ts", import.meta.url);
    const code = `console.log((await import(${JSON.stringify(program)})).gatewayIsReachable())`;
    const { stdout, success } = await new Deno.Command("unshare", {
      args: ["-Urn", "sh", "-c", `${script}; exec "$0" eval --quiet "$1"`, Deno.execPath(), code],
    }).output();
    assert(success);
    return new TextDecoder().decode(stdout).trim();
  };
  assert.equal(await look("ip link set lo up"), "false");
  assert.equal(await look("ip link set lo up; ip route add local 10.0.2.0/24 dev lo"), "true");
  assert.equal(typeof gatewayIsReachable(), "boolean");
});
