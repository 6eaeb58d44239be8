import assert from "node:assert/strict";
import fc from "fast-check";
import {
  decide,
  decideHost,
  decideName,
  decideServerName,
  Pins,
  type Policy,
  type Rule,
} from "./policy.ts";
import { parseAddress } from "./wire/ipv4.ts";

const at = (text: string) => parseAddress(text)!;
const OWN = at("203.0.113.200");
const own = (address: number) => address === OWN || (address >>> 8) === at("10.0.2.0") >>> 8;

function rule(action: Rule["action"], text: string): Rule {
  const [what, port] = text.split(":");
  const [address, bits = "32"] = what!.split("/");
  const number = parseAddress(address!);
  const target: Rule["target"] = what === "host"
    ? { kind: "host" }
    : number === undefined
    ? { kind: "name", name: what!.replace("*.", ""), subdomains: what!.startsWith("*.") }
    : { kind: "network", address: number, bits: Number(bits) };
  return { action, target, text, ...(port !== undefined && { port: Number(port) }) };
}

const listed = (...texts: string[]): Policy => ({
  rules: texts.map((text) =>
    text.startsWith("!") ? rule("deny", text.slice(1)) : rule("allow", text)
  ),
  otherwise: "deny",
});
const open = (...texts: string[]): Policy => ({ ...listed(...texts), otherwise: "allow" });

const may = (policy: Policy, address: string, port = 443, ...names: string[]) =>
  decide(policy, at(address), port, names, own).allowed;

Deno.test("the first rule that matches decides, then what holds otherwise", () => {
  const policy = listed(
    "!192.0.2.66",
    "192.0.2.0/24:443",
    "api.example.com",
    "*.cdn.example.com:80",
  );
  assert(may(policy, "192.0.2.1"));
  assert(!may(policy, "192.0.2.1", 80));
  assert(!may(policy, "192.0.2.66"));
  assert(!may(policy, "192.0.3.1"));
  assert(may(policy, "203.0.113.1", 22, "api.example.com"));
  assert(!may(policy, "203.0.113.1", 22), "an address is not what it is called elsewhere");
  assert(!may(policy, "203.0.113.1", 22, "other.example.com", "evilapi.example.com"));
  assert(may(policy, "203.0.113.1", 80, "a.b.cdn.example.com"));
  assert(!may(policy, "203.0.113.1", 80, "cdn.example.com"));
  assert(!may(policy, "203.0.113.1", 443, "a.cdn.example.com"));
  assert(may(open("!198.51.100.0/24"), "192.0.2.1"));
  assert(!may(open("!198.51.100.0/24"), "198.51.100.9"));
  assert(!may(listed(), "192.0.2.1"));
});

const FLOOR = [
  ...["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.2.2", "10.1.1.1", "172.16.0.1"],
  ...["192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16"],
  ...["192.0.0.192", "224.0.0.1", "240.0.0.1", "255.255.255.255", "203.0.113.200"],
];

Deno.test("the floor is crossed by a rule for its addresses, and by nothing else", () => {
  for (const address of FLOOR) {
    assert(!may(open(), address), address);
    assert(!may(open("0.0.0.0/0", "*.example.com"), address, 443, "a.example.com"), address);
    assert(!may(listed("0.0.0.0/1", "128.0.0.0/1"), address), address);
    assert(may(listed(address), address), address);
    assert(!may(listed(`!${address}`, address), address), address);
  }
  assert(may(listed("10.0.0.0/8"), "10.1.1.1"));
  assert(may(open("0.0.0.0/0"), "192.0.2.1"));
});

Deno.test("this host is reached by a rule for it, and a rule for all addresses is none", () => {
  assert(decideHost(listed("host:5432"), 5432).allowed);
  assert(!decideHost(listed("host:5432"), 5433).allowed);
  assert(!decideHost(open("0.0.0.0/0", "127.0.0.1", "10.0.2.2"), 80).allowed);
  assert(!decideHost(listed("!host:80", "host:80"), 80).allowed);
});

Deno.test("a name is looked up when a connection to it could be allowed", () => {
  const policy = listed("!bad.example.com", "*.example.com:443", "192.0.2.0/24");
  assert(decideName(policy, "a.example.com").allowed);
  assert(!decideName(policy, "bad.example.com").allowed);
  assert(!decideName(policy, "secret.attacker.example").allowed, "which would tell the secret");
  assert(decideName(open("!bad.example.com"), "a.test").allowed);
  assert(!decideName(open("!bad.example.com"), "bad.example.com").allowed);
  assert(decideName(open("!bad.example.com:25"), "bad.example.com").allowed);
  assert(!decideName(listed("0.0.0.0/0"), "a.test").allowed);
});

Deno.test("behind a shared address only the server that was looked up and allowed is reached", () => {
  const policy = listed("good.example.com");
  const names = ["good.example.com", "other.example.com"];
  const front = (name: string) =>
    decideServerName(policy, at("192.0.2.1"), 443, name, names, own).allowed;
  assert(front("good.example.com"));
  assert(!front("other.example.com"));
  assert(!front("never.looked.up"));
});

Deno.test("pins hold for their time, five minutes at least, and there is an end to them", () => {
  const pins = new Pins();
  pins.add("a.example.com", [1, 2], 0, 1000);
  pins.add("b.example.com", [2], 3600, 1000);
  assert.deepEqual(pins.namesOf(2, 300_999), ["a.example.com", "b.example.com"]);
  assert.deepEqual(pins.namesOf(2, 301_000), ["b.example.com"]);
  assert.deepEqual(pins.namesOf(1, 301_000), []);
  assert.deepEqual(pins.namesOf(2, 3_601_000), []);
  assert.equal(pins.size, 0);
  for (let i = 0; i < 5000; i++) pins.add("c.example.com", [i], 1, 0);
  assert.equal(pins.size, 4096);
  assert.deepEqual(pins.namesOf(4999, 1), ["c.example.com"], "the newest stay");
  for (let i = 0; i < 100; i++) pins.add(`${i}.example.com`, [7000], 1, 0);
  assert.equal(pins.namesOf(7000, 1).length, 64);
});

Deno.test("a decision is that of a model that looks at one rule after the other", () => {
  const address = fc.nat(0xffff_ffff);
  const network = fc.tuple(address, fc.integer({ min: 8, max: 32 })).map(([address, bits]) => ({
    kind: "network" as const,
    address,
    bits,
  }));
  const rules = fc.array(fc.record({
    action: fc.constantFrom("allow" as const, "deny" as const),
    target: network,
    port: fc.option(fc.constantFrom(80, 443), { nil: undefined }),
    text: fc.constant(""),
  }));
  fc.assert(
    fc.property(
      rules,
      address,
      fc.constantFrom(80, 443),
      fc.boolean(),
      (rules, random, port, use) => {
        // One that a rule has, since a random one would match none.
        const address = use ? rules[0]?.target.address ?? random : random;
        const inside = ({ target }: (typeof rules)[number]) => {
          const size = 2 ** (32 - target.bits);
          return Math.floor(target.address / size) === Math.floor(address / size);
        };
        const first = rules.find((rule) => inside(rule) && (rule.port ?? port) === port);
        const policy: Policy = { rules, otherwise: "deny" };
        assert.equal(decide(policy, address, port, [], own).allowed, first?.action === "allow");
      },
    ),
  );
});
