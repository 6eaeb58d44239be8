import assert from "node:assert/strict";
import fc from "fast-check";
import { decide, decideAnswer, decideHost, decideName } from "./policy.ts";
import { parseRule, policyOf } from "./rules.ts";
import { formatIpv4, parseAddress } from "./wire/ipv4.ts";

const at = (text: string) => parseAddress(text)!;
const own = () => false;

Deno.test("a rule is read as it is written", () => {
  const read = (text: string) => {
    const { target, port, protocol } = parseRule(text, "allow");
    return { target, port, protocol };
  };
  const name = (name: string, subdomains = false) => ({ kind: "name", name, subdomains });
  const network = (address: string, bits: number) => ({
    kind: "network",
    address: at(address),
    bits,
  });
  for (
    const [text, target, port, protocol] of [
      ["api.example.com", name("api.example.com")],
      ["API.Example.COM.:443", name("api.example.com"), 443],
      ["*.cdn.example.com:80", name("cdn.example.com", true), 80],
      ["_sip._udp.example.com:5060/udp", name("_sip._udp.example.com"), 5060, "udp"],
      ["bücher.example", name("xn--bcher-kva.example")],
      ["localhost:1/tcp", name("localhost"), 1],
      ["203.0.113.7", network("203.0.113.7", 32)],
      ["203.0.113.0/24:5432", network("203.0.113.0", 24), 5432],
      ["0.0.0.0/0", network("0.0.0.0", 0)],
      ["198.51.100.7:53/udp", network("198.51.100.7", 32), 53, "udp"],
      ["host:8080", { kind: "host" }, 8080],
      ["host", { kind: "host" }],
    ] as const
  ) assert.deepEqual(read(text), { target, port, protocol }, text);
});

Deno.test("what is no rule is refused, with what is wrong", () => {
  for (
    const [text, why] of [
      ["", /names no host/],
      [":80", /names no host/],
      ["a b", /is no name/],
      ["example..com", /is no name/],
      ["-a.example", /is no name/],
      ["a.*.example", /is no name/],
      ["http://example.com", /no IPv6|is no name/],
      ["example.com:0", /is no port/],
      ["example.com:", /is no port/],
      ["example.com:65536", /is no port/],
      ["256.1.1.1", /no IPv4 address/],
      ["1.2.3.4/33", /no IPv4 address/],
      ["1.2.3", /is no name/],
      ["0x7f.1", /is no name/],
      ["10.0.0.1/8", /begins at 10\.0\.0\.0/],
      ["[::1]:80", /no IPv6/],
      ["::ffff:127.0.0.1", /no IPv6/],
      ["user@example.com", /is no name/],
      [`${"a".repeat(64)}.example`, /is no name/],
      ["a.".repeat(200), /too long|is no name/],
    ] as const
  ) assert.throws(() => parseRule(text, "allow"), why, text);
});

Deno.test("whatever is read as a rule decides without an error", () => {
  const part = fc.oneof(
    fc.constantFrom("*.", "a", ".", ":", "/", "host", "udp", "80", "1.2.3.4", "24", "[", "-", "_"),
    fc.string({ maxLength: 3 }),
  );
  fc.assert(fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
    let rule;
    try {
      rule = parseRule(parts.join(""), "allow");
    } catch (error) {
      return assert.match(String(error), /Cannot use the network rule/);
    }
    const policy = policyOf([rule], "deny");
    const { target } = rule;
    if (target.kind === "name") {
      const asked = target.subdomains ? `www.${target.name}` : target.name;
      assert(decideName(policy, asked).allowed);
    } else if (target.kind === "network") {
      const { protocol } = rule;
      const decision = decide(policy, target.address, rule.port ?? 1, [], own, protocol);
      assert.equal(decision.allowed || decision.floor === true, true);
    } else assert(decideHost(policy, rule.port ?? 1, rule.protocol).allowed);
  }));
});

Deno.test("a rule that another one before it hides is refused", () => {
  const policy = (...texts: string[]) =>
    policyOf(
      texts.map((text) =>
        text.startsWith("!") ? parseRule(text.slice(1), "deny") : parseRule(text, "allow")
      ),
      "deny",
    );
  for (
    const [first, second] of [
      ["!*.example.com", "a.example.com"],
      ["!*.example.com", "*.a.example.com:443"],
      ["!example.com", "example.com:443"],
      ["!203.0.113.0/24", "203.0.113.7"],
      ["!0.0.0.0/0", "203.0.113.0/24:80"],
      ["host", "!host:80"],
    ] as const
  ) {
    assert.throws(() => policy(first, second), /can never match/, `${first} ${second}`);
    policy(second, first);
  }
  for (
    const [first, second] of [
      ["!example.com:443", "example.com"],
      ["!*.example.com", "example.com"],
      ["!example.com/udp", "example.com"],
      ["!203.0.113.7", "203.0.113.0/24"],
      ["!0.0.0.0/0", "example.com"],
      ["example.com", "example.com"],
    ] as const
  ) policy(first, second);
});

Deno.test("nothing crosses a floor that always holds", () => {
  const rules = ["10.0.0.0/8", "127.0.0.1:80", "host:80", "203.0.113.7"]
    .map((text) => parseRule(text, "allow"));
  for (const [floor, expected] of [["rules", true], ["always", false]] as const) {
    const policy = policyOf(rules, "deny", floor);
    assert.equal(decide(policy, at("10.1.2.3"), 80, [], own).allowed, expected);
    assert.equal(decide(policy, at("127.0.0.1"), 80, [], own).allowed, expected);
    assert.equal(decideHost(policy, 80).allowed, expected);
    assert.equal(decideAnswer(policy, at("10.1.2.3"), own), expected);
    assert(decide(policy, at("203.0.113.7"), 80, [], own).allowed);
  }
});

Deno.test("a network's start is told in the remedy", () => {
  fc.assert(fc.property(fc.nat(0xffff_ffff), fc.integer({ min: 1, max: 31 }), (address, bits) => {
    const start = (address >>> (32 - bits) << (32 - bits)) >>> 0;
    const text = `${formatIpv4(address >>> 0)}/${bits}`;
    if (start === address >>> 0) parseRule(text, "allow");
    else {assert.throws(() =>
        parseRule(text, "allow"), new RegExp(`begins at ${formatIpv4(start)}`));}
  }));
});
