import assert from "node:assert/strict";
import { ArpOperation, emitArp, parseArp } from "./wire/arp.ts";
import { EtherType } from "./wire/ethernet.ts";
import { emitIcmp, IcmpType, parseIcmp, Unreachable } from "./wire/icmp.ts";
import { emitIpv4, Protocol } from "./wire/ipv4.ts";
import { emitTcp, TcpFlag } from "./wire/tcp.ts";
import { MOST_CONNECTIONS } from "./saved.ts";
import {
  type FakeSocket,
  GATEWAY,
  GUEST,
  GuestConnection,
  ip,
  listed,
  Net,
  OPEN,
  SERVER,
} from "./testing.ts";

const { SYN, ACK, RST, FIN } = TcpFlag;
const ECONNREFUSED = 111;
const EHOSTUNREACH = 113;
const EMFILE = 24;

const text = (text: string) => new TextEncoder().encode(text);
const network = (address: number, bits = 32) => ({ kind: "network", address, bits }) as const;

/** Type and code of the ICMP messages that came, and the packet that each is about. */
function unreachable(net: Net) {
  return net.take(Protocol.ICMP).map(({ from, body }) => {
    const { type, code, data } = parseIcmp(body)!;
    return { from, type, code, data };
  });
}

Deno.test("ARP is answered for the gateway, and for nobody else's sake", () => {
  using net = new Net(OPEN);
  const ask = (target: number, sender = GUEST) =>
    net.ethernet(
      EtherType.ARP,
      emitArp({
        operation: ArpOperation.REQUEST,
        senderMac: Uint8Array.of(2, 0, 0, 0, 0, 15),
        sender,
        targetMac: new Uint8Array(6),
        target,
      }),
    );
  ask(GATEWAY);
  const reply = parseArp(net.frames.pop()!.subarray(14))!;
  assert.deepEqual([reply.operation, reply.sender, reply.target], [2, GATEWAY, GUEST]);
  for (const other of [GUEST, SERVER, ip("10.0.2.3"), 0, 0xffff_ffff]) ask(other);
  ask(GATEWAY, ip("10.0.2.99"));
  assert.deepEqual(net.frames, []);
});

Deno.test("echo is answered for the gateway only", () => {
  using net = new Net(OPEN);
  const echo = { type: IcmpType.ECHO_REQUEST, code: 0, rest: 0x1234_0001, data: text("hello") };
  net.packet(Protocol.ICMP, GATEWAY, emitIcmp(echo));
  const [reply] = net.take(Protocol.ICMP);
  assert.deepEqual(parseIcmp(reply!.body), { ...echo, type: IcmpType.ECHO_REPLY });
  net.packet(Protocol.ICMP, SERVER, emitIcmp(echo));
  assert.deepEqual(net.frames, []);
});

Deno.test("without a network everything is unreachable at once, and nothing leaves", () => {
  using net = new Net(undefined);
  net.syn(SERVER, 443);
  net.syn(GATEWAY, 8080);
  net.udp(SERVER, 123, text("time?"));
  const messages = unreachable(net);
  assert.deepEqual(messages.map(({ code, from }) => [code, from]), [
    [Unreachable.NETWORK, GATEWAY],
    [Unreachable.NETWORK, GATEWAY],
    [Unreachable.NETWORK, GATEWAY],
  ]);
  // What the guest's kernel finds the socket by: addresses, ports and the sequence number.
  assert.deepEqual([...messages[0]!.data.subarray(20)], [0x9c, 0x40, 1, 0xbb, 0, 0, 3, 0xe7]);
  assert.deepEqual([net.sockets.dialed, net.sockets.peers], [[], []]);
});

Deno.test("what the rules deny is a reset, once told with the rule", () => {
  const deny = {
    action: "deny",
    target: network(ip("203.0.113.0"), 24),
    text: "203.0.113.0/24",
  } as const;
  using net = new Net({ rules: [deny], otherwise: "allow" });
  for (const from of [1000, 1001]) {
    net.syn(SERVER, 443, from);
    const [reset] = net.segments();
    assert.deepEqual([reset?.flags, reset?.acknowledgment, reset?.from], [RST | ACK, 1000, SERVER]);
  }
  net.syn(ip("169.254.169.254"), 80);
  net.syn(GATEWAY, 22);
  assert.deepEqual(net.segments().map(({ flags }) => flags), [RST | ACK, RST | ACK]);
  net.udp(ip("198.51.100.1"), 443, text("quic"));
  assert.deepEqual(unreachable(net).map(({ code }) => code), [Unreachable.PORT]);
  assert.deepEqual(net.sockets.dialed, []);
  const told = net.events.map(({ what, address, name, port, rule, floor }) =>
    [what, address ?? name, port, rule, floor ?? false].join(" ")
  );
  assert.deepEqual(told, [
    "tcp 203.0.113.7 443 203.0.113.0/24 false",
    "tcp 169.254.169.254 80  true",
    "tcp host 22  false",
    "udp 198.51.100.1 443  false",
  ]);
});

Deno.test("the server is dialled first, and the guest learns what came of it", () => {
  using net = new Net(OPEN);
  net.syn(SERVER, 80);
  const [socket] = net.sockets.dialed;
  assert.deepEqual([socket!.address, socket!.port, net.frames.length], [SERVER, 80, 0]);
  socket!.accept();
  assert.deepEqual(net.segments().map(({ flags }) => flags), [SYN | ACK]);
  net.syn(SERVER, 81);
  net.sockets.dialed[1]!.refuse(ECONNREFUSED);
  assert.deepEqual(net.segments().map(({ flags }) => flags), [RST | ACK]);
  net.syn(SERVER, 82);
  net.sockets.dialed[2]!.refuse(EHOSTUNREACH);
  assert.deepEqual(unreachable(net).map(({ code }) => code), [Unreachable.HOST]);
  net.sockets.failure = EMFILE;
  net.syn(SERVER, 83);
  assert.deepEqual(unreachable(net).map(({ code }) => code), [Unreachable.HOST]);
  net.sockets.failure = 0;
  net.syn(SERVER, 84);
  net.clock.pass(31_000); // nobody answers
  assert.deepEqual(unreachable(net).map(({ code }) => code), [Unreachable.HOST]);
  assert.equal(net.stack.counters().connections, 1);
});

Deno.test("this host is reached by the gateway's address, and only where a rule says so", () => {
  using net = new Net(listed({ target: { kind: "host" }, port: 8080 }));
  net.syn(GATEWAY, 8080);
  assert.deepEqual([net.sockets.dialed[0]?.address, net.sockets.dialed[0]?.port], [
    ip("127.0.0.1"),
    8080,
  ]);
  net.syn(GATEWAY, 8081);
  net.syn(ip("127.0.0.1"), 8080);
  net.syn(ip("10.0.2.3"), 8080);
  assert.equal(net.sockets.dialed.length, 1);
});

Deno.test("bytes go both ways, each side ends by itself, and nothing is left", () => {
  using net = new Net(OPEN);
  const guest = new GuestConnection(net);
  guest.socket.say(text("220 ready\r\n")); // a protocol in which the server speaks first
  assert.deepEqual(guest.read().bytes, [...text("220 ready\r\n")]);
  guest.send(text("HELO"));
  guest.send(new Uint8Array(0), FIN | ACK);
  assert.deepEqual([guest.socket.got, guest.socket.ended], [[...text("HELO")], true]);
  guest.read();
  guest.socket.say(text("bye"), true);
  const { bytes, flags } = guest.read();
  assert.deepEqual([bytes, flags & FIN], [[...text("bye")], FIN]);
  net.clock.pass(2000);
  assert.deepEqual([guest.socket.state, net.stack.counters().connections], ["closed", 0]);
});

Deno.test("a reset goes through in both directions", () => {
  using net = new Net(OPEN);
  const first = new GuestConnection(net);
  first.send(new Uint8Array(0), RST);
  assert.equal(first.socket.state, "reset");
  const second = new GuestConnection(net, 80, SERVER, 40_001);
  second.socket.refuse(104); // ECONNRESET
  assert.equal(net.segments().at(-1)!.flags & RST, RST);
  assert.equal(net.stack.counters().connections, 0);
});

Deno.test("what a server does not take waits in a queue whose room is the window", () => {
  using net = new Net(OPEN);
  const guest = new GuestConnection(net);
  guest.socket.room = 1000;
  const sent: number[] = [];
  let window = Infinity;
  for (let i = 0; window > 0 && i < 100; i++) {
    const payload = Uint8Array.from({ length: 60_000 }, (_, at) => at * 3 + i);
    guest.send(payload);
    const last = net.segments().at(-1)!;
    const taken = payload.length - ((guest.sequence - last.acknowledgment) | 0);
    sent.push(...payload.subarray(0, taken));
    guest.sequence = last.acknowledgment;
    window = last.window;
  }
  const waiting = sent.length - 1000;
  assert(waiting <= 1 << 20 && waiting > (1 << 20) - 128, `${waiting} bytes wait`);
  assert.deepEqual([window, net.stack.counters().bytesWaiting], [0, waiting]);
  guest.socket.open(Infinity);
  assert.deepEqual(guest.socket.got, sent);
  assert.equal(net.segments().at(-1)!.window, (1 << 20) >> 7, "the window opens again");
});

Deno.test("what the guest has sent reaches a slow server after the guest has gone", () => {
  using net = new Net(OPEN);
  const guest = new GuestConnection(net);
  guest.socket.room = 0;
  guest.send(text("the last words"));
  guest.send(new Uint8Array(0), FIN | ACK);
  guest.socket.say(new Uint8Array(0), true);
  guest.read();
  net.clock.pass(5000);
  assert.deepEqual([guest.socket.state, net.stack.counters().connections], ["open", 1]);
  guest.socket.open(Infinity);
  assert.deepEqual(guest.socket.got, [...text("the last words")]);
  assert.deepEqual([guest.socket.ended, guest.socket.state], [true, "closed"]);
  assert.equal(net.stack.counters().connections, 0);
});

Deno.test("nothing is sent while the guest has no room, and nothing is lost by that", () => {
  using net = new Net(OPEN);
  net.largest = 1514;
  const guest = new GuestConnection(net);
  const down = Uint8Array.from({ length: 20_000 }, (_, i) => i * 7);
  net.room = 3;
  guest.socket.say(down);
  assert.equal(net.frames.length, 3);
  const got = [...guest.read().bytes];
  net.clock.pass(600_000); // no timer may give the guest up for what the link does not take
  for (let i = 0; i < 100 && got.length < down.length; i++) {
    net.room = 2;
    net.stack.ready();
    got.push(...guest.read().bytes);
  }
  assert.deepEqual(got, [...down]);
});

Deno.test("connections are bounded, and so are the bytes of all of them", () => {
  using net = new Net(OPEN);
  for (let i = 0; i < MOST_CONNECTIONS + 5; i++) net.syn(SERVER, 80, 10_000 + i);
  assert.deepEqual(net.segments().map(({ flags }) => flags), Array(5).fill(RST | ACK));
  const { connections, connectionsRefused } = net.stack.counters();
  assert.deepEqual([connections, connectionsRefused], [MOST_CONNECTIONS, 5]);
  let promised = 0;
  for (const socket of net.sockets.dialed) (socket as FakeSocket).accept();
  for (const { flags, window } of net.segments()) {
    assert.equal(flags, SYN | ACK);
    promised += window; // not scaled with SYN; each connection has 32 KiB at least
  }
  assert(promised <= 96 << 20);
});

Deno.test("packets that are not the guest's, cut in parts or for many are not looked at", () => {
  using net = new Net(OPEN);
  net.packet(Protocol.TCP, SERVER, new Uint8Array(40), ip("10.0.2.99"));
  net.packet(Protocol.UDP, ip("224.0.0.251"), new Uint8Array(40));
  net.packet(Protocol.UDP, 0xffff_ffff, new Uint8Array(40));
  net.packet(132, SERVER, new Uint8Array(40)); // SCTP
  net.ethernet(0x86dd, new Uint8Array(60)); // IPv6
  const addresses = { source: GUEST, destination: SERVER };
  const syn = { source: 1, destination: 80, sequence: 0, acknowledgment: 0, flags: SYN, window: 1 };
  const fragment = new Uint8Array(40);
  emitIpv4(fragment, { protocol: Protocol.TCP, ...addresses, payload: 20 });
  fragment.set(emitTcp(syn, 0, addresses), 20);
  fragment[6] = 0x20; // more fragments; the checksum changes by what the flags do, 0x4000 to 0x2000
  const view = new DataView(fragment.buffer);
  view.setUint16(10, (view.getUint16(10) + 0x2000) % 0xffff);
  net.ethernet(EtherType.IPV4, fragment);
  net.send(new Uint8Array(14));
  assert.deepEqual([net.frames, net.sockets.dialed], [[], []]);
  const { spoofed, ignored } = net.stack.counters();
  assert.deepEqual([spoofed, ignored], [1, 6]);
});

Deno.test("segments of no connection are reset as the RFC says (9293, 3.10.7.1)", () => {
  using net = new Net(OPEN);
  net.tcp(SERVER, { flags: ACK, sequence: 7, acknowledgment: 77 });
  net.tcp(SERVER, { flags: FIN, sequence: 7 }, text("abc"));
  net.tcp(SERVER, { flags: RST | ACK, sequence: 7, acknowledgment: 77 });
  const numbers = net.segments().map((s) => [s.flags, s.sequence, s.acknowledgment]);
  assert.deepEqual(numbers, [[RST, 77, 0], [RST | ACK, 0, 11]]);
});

Deno.test("datagrams pass where a rule for UDP says so, until they have been idle", () => {
  using net = new Net(listed({ target: network(SERVER), port: 123, protocol: "udp" }));
  net.udp(SERVER, 123, text("time?"));
  net.udp(SERVER, 123, text("time?"), 40_001);
  assert.deepEqual(net.sockets.peers.map(({ got }) => got.length), [1, 1]);
  net.sockets.peers[1]!.say(text("noon"));
  const [answer] = net.datagrams();
  assert.deepEqual([answer?.from, answer?.source, answer?.payload], [SERVER, 123, text("noon")]);
  net.udp(SERVER, 124, text("no"));
  net.syn(SERVER, 123);
  assert.deepEqual([net.sockets.peers.length, net.sockets.dialed.length], [2, 0]);
  net.clock.pass(100_000);
  net.udp(SERVER, 123, text("again"));
  net.clock.pass(100_000);
  assert.deepEqual(net.sockets.peers.map(({ closed }) => closed), [false, true]);
  net.clock.pass(100_000);
  assert.equal(net.stack.counters().flows, 0);
  for (let i = 0; i < 300; i++) net.udp(SERVER, 123, text("x"), 1000 + i);
  assert.equal(net.stack.counters().flows, 256);
});

Deno.test("a restored guest's connections are reset with the numbers that it expects", () => {
  using net = new Net(OPEN);
  const guest = new GuestConnection(net, 5432);
  guest.send(text("query"));
  guest.socket.say(text("rows"));
  guest.read();
  using other = new Net(undefined);
  other.stack.restore(structuredClone(net.stack.save()));
  other.stack.configure({ policy: OPEN, upstreams: [] }); // the run's, after the restore
  other.stack.ready();
  const [reset, more] = other.segments();
  assert.equal(more, undefined);
  assert.deepEqual(
    [reset!.from, reset!.source, reset!.destination, reset!.flags & RST],
    [SERVER, 5432, 40_000, RST],
  );
  assert.deepEqual([reset!.sequence, reset!.acknowledgment], [
    guest.acknowledgment,
    guest.sequence,
  ]);
  assert.deepEqual(other.stack.save(), []);
});

Deno.test("another policy ends what the one before allowed", () => {
  using net = new Net(OPEN);
  const guest = new GuestConnection(net);
  net.stack.configure({ policy: listed(), upstreams: [] });
  assert.equal(guest.socket.state, "reset");
  guest.send(text("still there?"));
  assert.equal(net.segments().at(-1)?.flags, RST);
});
