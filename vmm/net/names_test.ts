import assert from "node:assert/strict";
import { FirstBytes } from "./first_bytes.ts";
import type { Policy } from "./policy.ts";
import { GATEWAY, GuestConnection, ip, listed, Net, OPEN, SERVER } from "./testing.ts";
import {
  DnsCode,
  type DnsQuestion,
  DnsType,
  emitAnswer,
  emitQuestion,
  parseAnswer,
  parseQuestion,
} from "./wire/dns.ts";
import { TcpFlag } from "./wire/tcp.ts";
import { clientHello } from "./wire/testing.ts";

const text = (text: string) => new TextEncoder().encode(text);
const name = (name: string, subdomains = false) => ({ kind: "name", name, subdomains }) as const;
const API: Policy = listed({ target: name("api.example.com") });

/** The guest looks a name up; the upstream answers with these addresses, when it is asked. */
function lookUp(net: Net, host: string, addresses: string[] = ["203.0.113.7"], ttl = 60) {
  const before = net.sockets.peers.length;
  net.udp(GATEWAY, 53, emitQuestion(7, host));
  const peer = net.sockets.peers[before];
  if (peer !== undefined) {
    const question = parseQuestion(peer.got[0]!) as DnsQuestion;
    const records = addresses.map((address) => ({ address: ip(address), ttl }));
    peer.say(emitAnswer(question, DnsCode.NO_ERROR, records));
  }
  const [reply] = net.datagrams();
  assert.deepEqual([reply?.from, reply?.source], [GATEWAY, 53]);
  const answer = parseAnswer(reply!.payload)!;
  assert.equal(answer.id, 7);
  return {
    asked: peer,
    code: answer.code,
    addresses: answer.addresses.map(({ address }) => address),
  };
}

const isReset = (net: Net) => net.segments().some(({ flags }) => (flags & TcpFlag.RST) !== 0);

Deno.test("only names that a rule could allow leave the host", () => {
  using net = new Net(API);
  const found = lookUp(net, "api.example.com");
  assert.deepEqual([found.code, found.addresses], [DnsCode.NO_ERROR, [SERVER]]);
  assert.deepEqual([found.asked!.address, found.asked!.port], [ip("198.51.100.53"), 53]);
  for (const other of ["secret.evil.example", "x.api.example.com", "example.com", ""]) {
    const refused = lookUp(net, other);
    assert.deepEqual([refused.code, refused.asked], [DnsCode.REFUSED, undefined], other);
  }
  assert.deepEqual(net.events.map(({ what, name }) => [what, name])[0], [
    "name",
    "secret.evil.example",
  ]);
  using shut = new Net(undefined);
  assert.deepEqual(lookUp(shut, "api.example.com").code, DnsCode.REFUSED);
  assert.deepEqual(shut.sockets.peers, []);
});

Deno.test("an address is allowed by the name that the guest looked up, and only then", () => {
  using net = new Net(API);
  net.syn(SERVER, 8443);
  assert(isReset(net), "nobody has looked it up");
  lookUp(net, "API.example.com");
  net.syn(SERVER, 8443);
  assert.equal(net.sockets.dialed.length, 1);
  net.syn(ip("203.0.113.8"), 8443);
  assert(isReset(net));
  assert.equal(net.sockets.dialed.length, 1);
});

Deno.test("answers that lead behind the host are not passed on (DNS rebinding)", () => {
  const net = new Net(API);
  const inner = ["127.0.0.1", "10.0.0.7", "169.254.169.254", "192.168.1.1", "10.0.2.2", "0.0.0.0"];
  const mixed = lookUp(net, "api.example.com", [...inner, "203.0.113.7"]);
  assert.deepEqual(mixed.addresses, [SERVER]);
  const only = lookUp(net, "api.example.com", ["127.0.0.1"], 0);
  assert.deepEqual([only.code, only.addresses], [DnsCode.NAME_ERROR, []]);
  for (const address of inner) net.syn(ip(address), 80);
  assert.deepEqual(net.sockets.dialed, []);
  assert(net.events.some(({ name, floor }) => name === "api.example.com" && floor));
  net[Symbol.dispose]();
});

Deno.test("what is no question for addresses is answered without asking anybody", () => {
  using net = new Net(API);
  const ask = (type: number, change: (bytes: Uint8Array) => void = () => {}) => {
    const message = emitQuestion(9, "api.example.com");
    new DataView(message.buffer).setUint16(message.length - 4, type);
    change(message);
    net.udp(GATEWAY, 53, message);
    return net.datagrams().map(({ payload }) => payload[3]! & 15);
  };
  for (const type of [DnsType.AAAA, 16, 65, 255]) assert.deepEqual(ask(type), [DnsCode.NO_ERROR]);
  assert.deepEqual(ask(1, (bytes) => bytes[2] = 0x28), [DnsCode.NOT_IMPLEMENTED]); // an update
  assert.deepEqual(ask(1, (bytes) => bytes[2] = 0x80), []); // an answer
  assert.deepEqual(ask(1, (bytes) => bytes[5] = 2), []); // two questions
  assert.deepEqual(net.sockets.peers, []);
});

Deno.test("an upstream that is silent, wrong or fails is not believed, and not waited for long", () => {
  using net = new Net(API);
  net.udp(GATEWAY, 53, emitQuestion(7, "api.example.com"));
  const [peer] = net.sockets.peers;
  const question = parseQuestion(peer!.got[0]!)!;
  const record = [{ address: SERVER, ttl: 1 }];
  peer!.say(emitAnswer({ ...question, id: question.id ^ 1 }, DnsCode.NO_ERROR, record));
  peer!.say(text("nonsense"));
  peer!.say(emitAnswer(parseQuestion(emitQuestion(question.id, "evil.example"))!, 0, record));
  assert.deepEqual(net.datagrams(), []);
  net.clock.pass(10_000);
  const [reply] = net.datagrams();
  assert.equal(reply!.payload[3]! & 15, DnsCode.SERVER_FAILURE);
  assert.equal(net.sockets.peers.length, 3);
  const ids = net.sockets.peers.map(({ got }) => parseQuestion(got[0]!)!.name);
  assert.deepEqual(new Set(ids), new Set(["api.example.com"]));
  net.udp(GATEWAY, 53, emitQuestion(8, "api.example.com"));
  const next = net.sockets.peers.at(-1)!;
  next.say(emitAnswer(parseQuestion(next.got[0]!)!, DnsCode.NAME_ERROR));
  assert.equal(net.datagrams()[0]!.payload[3]! & 15, DnsCode.NAME_ERROR);
});

Deno.test("questions are bounded in number and in a second", () => {
  using net = new Net(OPEN);
  for (let i = 0; i < 300; i++) net.udp(GATEWAY, 53, emitQuestion(i, `h${i}.example.com`));
  assert.equal(net.sockets.peers.length, 64);
  assert.equal(net.datagrams().filter(({ payload }) => (payload[3]! & 15) === 5).length, 236);
  net.clock.pass(20_000);
  net.datagrams();
  for (let i = 0; i < 300; i++) {
    net.udp(GATEWAY, 53, emitQuestion(i, `h${i}.example.com`));
    const peer = net.sockets.peers.at(-1)!;
    if (!peer.closed) peer.say(emitAnswer(parseQuestion(peer.got[0]!)!, DnsCode.NAME_ERROR));
  }
  const codes = net.datagrams().map(({ payload }) => payload[3]! & 15);
  assert.deepEqual([codes.filter((code) => code === 3).length, codes.length], [200, 300]);
});

/** A connection that the policy allows by the server's name. */
function named(port: number, policy: Policy = API) {
  const net = new Net(policy);
  lookUp(net, "api.example.com");
  return { net, guest: new GuestConnection(net, port) };
}

Deno.test("TLS goes on when it asks for a server that was looked up here, in whatever pieces", () => {
  const { net, guest } = named(443);
  const hello = clientHello("api.example.com");
  for (let at = 0; at < hello.length; at += 40) {
    assert.deepEqual(guest.socket.got, [], "nothing passes before it is clear");
    guest.send(hello.subarray(at, at + 40));
  }
  assert.deepEqual(guest.socket.got, [...hello]);
  guest.send(text("more"));
  assert.deepEqual(guest.socket.got, [...hello, ...text("more")]);
  assert.equal(isReset(net), false);
  net[Symbol.dispose]();
});

Deno.test("TLS for another server at the same address, or for none, is reset (domain fronting)", () => {
  for (const other of ["evil.example.com", "x.api.example.com", undefined]) {
    const { net, guest } = named(443);
    guest.send(clientHello(other));
    assert.deepEqual([guest.socket.got, guest.socket.state], [[], "reset"], `${other}`);
    assert(isReset(net));
    assert.equal(net.events.at(-1)?.what, "server-name");
    net[Symbol.dispose]();
  }
  // Also on a port where TLS is not expected.
  const { net, guest } = named(9000);
  guest.send(clientHello("evil.example.com"));
  assert.equal(guest.socket.state, "reset");
  net[Symbol.dispose]();
});

Deno.test("HTTP on port 80 goes to the Host that was looked up, and no other one", () => {
  const request = (host: string) => text(`GET / HTTP/1.1\r\nAccept: */*\r\n${host}\r\n\r\n`);
  for (
    const [head, goes] of [
      ["Host: api.example.com", true],
      ["hOST:API.example.com:80", true],
      ["Host: evil.example.com", false],
      ["Host: api.example.com\r\nHost: evil.example.com", false],
      ["X-Host: api.example.com", false],
    ] as const
  ) {
    const { net, guest } = named(80);
    guest.send(request(head));
    assert.equal(guest.socket.got.length > 0, goes, head);
    assert.equal(guest.socket.state, goes ? "open" : "reset", head);
    net[Symbol.dispose]();
  }
  const { net, guest } = named(80);
  guest.send(text("SSH-2.0-x\r\n"));
  assert.equal(guest.socket.state, "reset");
  net[Symbol.dispose]();
});

Deno.test("a server that speaks first is heard, and other protocols pass on other ports", () => {
  const { net, guest } = named(5432);
  guest.socket.say(text("hello"));
  assert.deepEqual(guest.read().bytes, [...text("hello")]);
  guest.send(text("SELECT 1"));
  assert.deepEqual(guest.socket.got, [...text("SELECT 1")]);
  net[Symbol.dispose]();
});

Deno.test("one that ends before it has said whom it wants is reset", () => {
  const { net, guest } = named(443);
  guest.send(clientHello("api.example.com").subarray(0, 60));
  guest.send(new Uint8Array(0), TcpFlag.FIN | TcpFlag.ACK);
  assert.deepEqual([guest.socket.got, guest.socket.state], [[], "reset"]);
  net[Symbol.dispose]();
  const silent = named(443);
  silent.guest.send(new Uint8Array(0), TcpFlag.FIN | TcpFlag.ACK);
  assert.deepEqual([silent.guest.socket.ended, silent.guest.socket.state], [true, "open"]);
  silent.net[Symbol.dispose]();
});

Deno.test("first bytes that never end are given up at a bound", () => {
  const first = new FirstBytes(80);
  let found = first.add(text("GET / HTTP/1.1\r\n"));
  for (let i = 0; found.kind === "more" && i < 1000; i++) {
    found = first.add(text("X: y\r\n".repeat(20)));
  }
  assert.deepEqual(found, { kind: "name", name: undefined });
  assert(first.bytes.length < 20_000);
});

Deno.test("hosts with secrets are reached by way of who puts them in, over TLS and by their name only", () => {
  using net = new Net(API);
  const interception = { hosts: [name("api.example.com")], port: 9999, token: "0123" };
  const policy = listed(
    { target: name("api.example.com") },
    { target: name("other.example.com") },
  );
  net.stack.configure({
    policy,
    upstreams: [{ address: ip("198.51.100.53"), port: 53 }],
    interception,
  });
  lookUp(net, "api.example.com");
  lookUp(net, "other.example.com", ["203.0.113.8"]);
  const greeting = "0123 203.0.113.7 443\n";
  const guest = new GuestConnection(net, 443, SERVER);
  const { socket } = guest;
  assert.deepEqual([socket.address, socket.port], [ip("127.0.0.1"), 9999]);
  assert.equal(String.fromCharCode(...socket.got), greeting);
  const hello = clientHello("api.example.com");
  guest.send(hello);
  assert.deepEqual(socket.got.slice(greeting.length), [...hello]);
  net.segments();
  const evil = new GuestConnection(net, 443, SERVER, 40_001);
  evil.send(clientHello("evil.example.com"));
  assert.equal(String.fromCharCode(...evil.socket.got), greeting, "and not a byte of the guest's");
  assert(isReset(net));
  const plain = new GuestConnection(net, 80, SERVER, 40_002);
  assert.deepEqual([plain.socket.address, plain.socket.port], [SERVER, 80]);
  const other = new GuestConnection(net, 443, ip("203.0.113.8"), 40_003);
  assert.deepEqual([other.socket.address, other.socket.port], [ip("203.0.113.8"), 443]);
});

Deno.test("where everything goes by way of somebody, so does this host, and what is denied does not", () => {
  using net = new Net(API);
  net.stack.configure({
    policy: listed(
      { target: name("api.example.com") },
      { target: { kind: "host" }, port: 4873 },
    ),
    upstreams: [{ address: ip("198.51.100.53"), port: 53 }],
    interception: { hosts: "all", port: 9999, token: "0123" },
  });
  lookUp(net, "api.example.com");
  const places: [port: number, address: number, told: string][] = [
    [443, SERVER, "203.0.113.7 443"],
    [8080, SERVER, "203.0.113.7 8080"],
    [4873, GATEWAY, "127.0.0.1 4873"],
  ];
  places.forEach(([port, address, told], i) => {
    const { socket } = new GuestConnection(net, port, address, 41_000 + i);
    assert.deepEqual([socket.address, socket.port], [ip("127.0.0.1"), 9999]);
    assert.equal(String.fromCharCode(...socket.got), `0123 ${told}\n`);
  });
  net.segments();
  const evil = new GuestConnection(net, 443, SERVER, 42_000);
  evil.send(clientHello("evil.example.com"));
  assert(isReset(net), "the server's name is checked as ever");
});
