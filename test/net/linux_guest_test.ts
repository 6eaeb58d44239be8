/**
 * The stack against Linux's own TCP, without a VM. `CLOUDLET_TEST_LONG=1` moves 100 MB and opens 10,000
 * connections.
 */
import assert from "node:assert/strict";
import { LONG } from "../long.ts";

/**
 * Checks that the guest repeated no segment. A stack that stands still for 200 ms, as beside other
 * tests it may, makes the guest repeat some (RFC 6298 has the timeout): so only where these run alone.
 */
function noneRepeated(retransmitted: number): void {
  if (LONG) assert.equal(retransmitted, 0);
}

/** Whether a TAP can be made in a namespace of one's own: /dev/net/tun is root's in many places. */
async function canMakeTap(): Promise<boolean> {
  try {
    const script = "ip tuntap add t0 mode tap vnet_hdr && command -v nsenter";
    const args = ["--map-root-user", "--net", "sh", "-c", script];
    const { success } = await new Deno.Command("unshare", {
      args,
      stdout: "null",
      stderr: "null",
    }).output();
    if (success) return true;
  } catch {
    // there is no unshare
  }
  console.warn("skipped the tests against Linux's TCP: no TAP can be made");
  return false;
}

const ignore = !(await canMakeTap());

// deno-lint-ignore no-explicit-any -- each scenario has a result of its own
async function scenario(name: string): Promise<any> {
  const program = new URL("./scenario.ts", import.meta.url).pathname;
  const run = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", program, name];
  const { success, stdout, stderr } = await new Deno.Command("timeout", {
    args: ["-s", "KILL", "120", "unshare", "--map-root-user", "--net", ...run],
    stdin: "null",
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assert(success, decoder.decode(stderr));
  return JSON.parse(decoder.decode(stdout)).result;
}

const test = (name: string, fn: () => Promise<void>, options: { ignore?: boolean } = {}) =>
  Deno.test({ name, fn, ignore: ignore || options.ignore === true });

test("Linux's TCP gets and sends all bytes, and repeats no segment", async () => {
  const { retransmitted, tapLost } = await scenario(LONG ? "large" : "small");
  noneRepeated(retransmitted + tapLost);
});

test("the same without large segments, and without SO_PEEK_OFF", async () => {
  noneRepeated((await scenario("without-segments")).retransmitted);
  noneRepeated((await scenario("without-peek-offset")).retransmitted);
});

test("all bytes are right where frames are lost, come twice and come late", async () => {
  await scenario(LONG ? "worse-cable" : "bad-cable");
});

test("300 connections at once, both ways, none with a repeated segment", async () => {
  noneRepeated((await scenario("many")).retransmitted);
});

test("connections leave nothing: no descriptor, no byte, no entry", async () => {
  await scenario(LONG ? "churn-long" : "churn"); // which looks
});

test("a guest learns at once what may not be, and why", async () => {
  const { codes, events } = await scenario("manners");
  const refused = "ECONNREFUSED";
  assert.deepEqual(codes, ["ok", refused, refused, refused, refused]);
  assert.deepEqual(events, [["tcp", "198.51.100.7"], ["tcp", "host"]]);
});

test("without a network connecting fails at once with ENETUNREACH, and no socket is made", async () => {
  const result = await scenario("none");
  const codes = ["ENETUNREACH", "ENETUNREACH"];
  assert.deepEqual(result, { codes, connectionsOpened: 0, flows: 0 });
});

test("a name that a rule allows opens the way to its address, and no other name leaves", async () => {
  assert.deepEqual(await scenario("names"), {
    before: "ECONNREFUSED",
    found: { addresses: ["203.0.113.7"] },
    after: "ok",
    other: { error: "NotFound" },
    asked: ["api.example.com"],
  });
});
