/**
 * The network as a guest sees it, in a namespace of the test's own with an internet of documentation
 * addresses: what programs do, what they may not, and that without a network nothing leaves.
 * `CLOUDLET_TEST_LONG=1` downloads 50 MB.
 */
import assert from "node:assert/strict";
import { run } from "../../mod.ts";
import { GUEST_PACKAGES } from "../net/guest_packages.ts";
import { hasKvm } from "./fixtures.ts";

/** Whether this process may have a network of its own; containers of some CI systems may not. */
async function hasNamespaces(): Promise<boolean> {
  try {
    const args = ["--map-root-user", "--net", "ip", "link", "set", "lo", "up"];
    const { success } = await new Deno.Command("unshare", { args, stderr: "null" }).output();
    if (success) return true;
  } catch {
    // there is no unshare
  }
  console.warn("skipped the tests of guests' network: no network namespace can be made");
  return false;
}

const ignore = !hasKvm() || !await hasNamespaces();

// deno-lint-ignore no-explicit-any -- each scenario has a result of its own
async function scenario(name: string): Promise<any> {
  const program = new URL("../net/guest_scenario.ts", import.meta.url).pathname;
  const run = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", program, name];
  const { success, stdout, stderr } = await new Deno.Command("timeout", {
    args: ["-s", "KILL", "900", "unshare", "--map-root-user", "--net", ...run],
    stdin: "null",
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assert(success, decoder.decode(stderr));
  const { result } = JSON.parse(decoder.decode(stdout));
  if (result.stderr !== undefined) assert.equal(result.stderr, "", decoder.decode(stderr));
  return result;
}

/** What tcpdump says of a capture. */
async function tcpdump(capture: Uint8Array, ...args: string[]): Promise<string> {
  const child = new Deno.Command("tcpdump", {
    args: ["-nr", "-", ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(capture);
  await writer.close();
  const { success, stdout } = await child.output();
  assert(success);
  return new TextDecoder().decode(stdout);
}

const REFUSED = "ECONNREFUSED";
const UNREACHABLE = "ENETUNREACH";

Deno.test({
  name: "a guest's network",
  ignore,
  async fn(t) {
    // Image and snapshot: in the namespace nothing can be fetched.
    const { exitCode } = await run({
      ...{ code: "print()", language: "python", packages: GUEST_PACKAGES },
    }).result;
    assert.equal(exitCode, 0);

    await t.step("without one everything fails at once, and nothing leaves", async () => {
      const { steps, reports, reached, asked } = await scenario("none");
      assert.deepEqual(steps.none, {
        connect: [UNREACHABLE, UNREACHABLE, UNREACHABLE],
        sixth: UNREACHABLE,
        datagram: UNREACHABLE,
        name: "again",
        loopback: REFUSED,
      });
      assert.deepEqual([reports, reached, asked], [[], [], []]);
    });

    const { steps, reports, reached, asked, hash } = await scenario("listed");

    await t.step("programs reach what is allowed", () => {
      assert.equal(steps.http, "hello from the internet");
      assert.equal(steps.download.hash, hash);
      assert.equal(steps.upload, true);
      assert.equal(steps.many, 100);
      assert.equal(steps.banner, "220 mail.example.com");
      assert.deepEqual(steps.websocket, ["HTTP/1.1 101 Switching Protocols", "HELLO"]);
      assert.deepEqual(steps.tools, ["hello from the internet", "", "the only commit"]);
      console.log(`download: ${steps.download.rate} MB/s`);
    });

    await t.step("nothing else is reached, in whatever spelling", () => {
      assert.deepEqual(steps.policy, {
        "port": REFUSED,
        "literal": REFUSED,
        "metadata": REFUSED,
        "gateway": REFUSED,
        "own address": REFUSED,
        "other guest": "EHOSTUNREACH", // on a link on which there is nobody else
        "private": [REFUSED, REFUSED, REFUSED, REFUSED],
        "sixth": UNREACHABLE,
        "mapped": REFUSED,
        "zero": REFUSED, // the guest's own loopback
        "datagram": REFUSED,
        "denied name": "again",
        "exfiltration": "again",
        "rebinding": "no name",
        "second answer": [["203.0.113.7"], "no name"],
        "pinned": ["203.0.113.8"],
      });
      assert.deepEqual(reached, []);
      assert.deepEqual(asked, [
        ...["api.example.com", "flips.example.com", "rebind.example.com", "shared.example.com"],
      ]);
    });

    await t.step("behind a shared address only the server that is allowed answers", () => {
      assert.deepEqual(steps.fronting.hello, ["ok", "ECONNRESET"]);
      assert.deepEqual(steps.fronting.host, ["HTTP/1.1 200 OK", "ECONNRESET"]);
    });

    await t.step("frames that no driver sends do no harm", () => {
      assert.deepEqual(steps.frames, [8, "hello from the internet"]);
    });

    await t.step("a fork's connections are reset at once; the original keeps its own", async () => {
      const { original, copy } = await scenario("fork");
      assert.deepEqual(original, ["ok"]);
      assert.deepEqual(copy, ["ECONNRESET", "connected again"]);
    });

    await t.step(
      "a published port leads to the guest's loopback; without a listener it resets",
      async () => {
        const { kinds, answers, exitCode } = await scenario("published");
        assert.deepEqual([kinds, answers, exitCode], [
          ["published", "unanswered"],
          ["reset", true, true, true],
          0,
        ]);
      },
    );

    await t.step(
      "the guest never has the value of a secret, and only its host gets it",
      async () => {
        const { secrets, found, got, reports } = await scenario("secrets");
        assert.deepEqual(secrets, { echoed: true, elsewhere: true, curl: true });
        assert.equal(found, 0, "the guest's memory has the value");
        assert.deepEqual(got, [
          { host: "api.example.com", values: 3, placeholders: 0 }, // query, field and body
          { host: "shared.example.com", values: 0, placeholders: 1 },
          { host: "api.example.com", values: 1, placeholders: 0 },
        ]);
        assert.deepEqual(reports, []);
      },
    );

    await t.step("tcpdump reads what was captured", async () => {
      const { http, pcap } = await scenario("captured");
      assert.equal(http, "hello from the internet");
      const read = (...args: string[]) => tcpdump(Uint8Array.fromBase64(pcap), ...args);
      const lines = async (filter: string) => (await read(filter)).trim().split("\n").length;
      assert.match(await read("udp dst port 53"), /A\? api\.example\.com\./);
      const syn = "tcp[tcpflags] == tcp-syn and dst host 203.0.113.7 and dst port 80";
      assert.equal(await lines(syn), 1);
      assert.match(await read("-A", "tcp src port 80"), /hello from the internet/);
      assert.match(await read("tcp[tcpflags] & tcp-fin != 0"), /Flags \[F\.\]/);
    });

    await t.step("each denial is told once, with what was asked for", () => {
      // deno-lint-ignore no-explicit-any
      const told = reports.map(({ asked, name, address, port }: any) =>
        [asked, name ?? address, port].filter((part) => part !== undefined).join(" ")
      );
      assert.equal(new Set(told).size, told.length);
      for (
        const denial of [
          ...["tcp api.example.com 81", "tcp 198.51.100.7 80", "tcp 169.254.169.254 80"],
          ...["tcp host 8080", "udp api.example.com 443", "name evil.example.com"],
          ...["name secret-words.evil.example.com", "name rebind.example.com"],
          ...["server-name evil.example.com 443", "server-name evil.example.com 80"],
        ]
      ) assert(told.includes(denial), `${denial} is not among ${told.join(", ")}`);
    });
  },
});
