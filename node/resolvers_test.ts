import assert from "node:assert/strict";
import { parseAddress } from "../vmm/net/wire/ipv4.ts";
import { parseResolver, resolversOf } from "./resolvers.ts";

const at = (text: string, port = 53) => ({ address: parseAddress(text)!, port });

Deno.test("the host's resolvers are those of resolv.conf, at most three, without IPv6", () => {
  const text = [
    "# nameserver 192.0.2.9",
    "search example.com",
    "nameserver 192.0.2.1",
    "nameserver 2001:db8::1",
    "nameserver\t127.0.0.53",
    "nameserver 192.0.2.2 ",
    "nameserver 192.0.2.3",
    "nameserver nonsense",
    "options edns0",
  ].join("\n");
  assert.deepEqual(resolversOf(text), [at("192.0.2.1"), at("127.0.0.53"), at("192.0.2.2")]);
  assert.deepEqual(resolversOf(""), []);
});

Deno.test("an operator's resolver is an address with a port or without one", () => {
  assert.deepEqual(parseResolver("192.0.2.53"), at("192.0.2.53"));
  assert.deepEqual(parseResolver("127.0.0.1:5353"), at("127.0.0.1", 5353));
  for (const text of ["", "dns.example", "192.0.2.53:0", "192.0.2.53:70000", "1.2.3", "[::1]:53"]) {
    assert.throws(() => parseResolver(text), /as a resolver/, text);
  }
});
