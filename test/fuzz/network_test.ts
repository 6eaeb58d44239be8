/** What a guest sends to its network, and what resolvers and servers answer. */
import assert from "node:assert/strict";
import { pcapHeader, pcapRecord } from "../../vmm/net/pcap.ts";
import { TcpConnection } from "../../vmm/net/tcp/connection.ts";
import { GATEWAY, GUEST, ip, listed, Net, OPEN, SERVER } from "../../vmm/net/testing.ts";
import { traceFrame } from "../../vmm/net/tracer.ts";
import { emitArp, parseArp } from "../../vmm/net/wire/arp.ts";
import { emitAnswer, emitQuestion, parseAnswer, parseQuestion } from "../../vmm/net/wire/dns.ts";
import { emitEthernet, EtherType } from "../../vmm/net/wire/ethernet.ts";
import { httpHost, MOST_HEAD } from "../../vmm/net/wire/http_host.ts";
import { emitIcmp, parseIcmp } from "../../vmm/net/wire/icmp.ts";
import { emitIpv4, parseIpv4, Protocol } from "../../vmm/net/wire/ipv4.ts";
import { emitTcp, parseTcp, TcpFlag } from "../../vmm/net/wire/tcp.ts";
import { clientHello } from "../../vmm/net/wire/testing.ts";
import { helloName, MOST_HELLO } from "../../vmm/net/wire/tls_hello.ts";
import { emitUdp, parseUdp } from "../../vmm/net/wire/udp.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { addressOf } from "../../ffi/mapping.ts";
import { checksumOf, sumWords } from "../../vmm/net/wire/checksum.ts";
import { concatenate, fuzz, type Random } from "./harness.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const utf8 = new TextEncoder();

// -- bytes -----------------------------------------------------------------------------------------

fuzz("net-arp", () => {
  const packet = { operation: 1, senderMac: MAC, sender: GUEST, targetMac: MAC, target: GATEWAY };
  const bytes = emitArp(packet);
  return (random) => {
    const damaged = random.damage(bytes);
    const read = parseArp(damaged);
    if (read !== undefined) assert.deepEqual(emitArp(read), damaged.slice(0, bytes.length));
  };
});

fuzz("net-ipv4", () => {
  const packet = new Uint8Array(60);
  emitIpv4(packet, { protocol: 6, source: GUEST, destination: SERVER, payload: 40 });
  return (random) => {
    const damaged = random.damage(packet);
    if (random.chance(2) && damaged.length >= 20) mendChecksum(damaged);
    const read = parseIpv4(damaged);
    if (read === undefined) return;
    assert(read.headerLength >= 20 && read.headerLength <= read.totalLength);
    assert(read.totalLength <= damaged.length);
    const icmp = parseIcmp(damaged.subarray(read.headerLength, read.totalLength));
    if (icmp !== undefined) assert(icmp.data.length <= damaged.length);
  };
});

/** Makes the checksum of an IPv4 header right, so that damage gets past it. */
function mendChecksum(packet: Uint8Array): void {
  const length = Math.min(packet.length, Math.max(20, (packet[0]! & 15) * 4));
  packet[10] = packet[11] = 0;
  const checksum = checksumOf(sumWords(packet.subarray(0, length)));
  packet[10] = checksum >> 8;
  packet[11] = checksum;
}

fuzz("net-tcp-header", () => {
  const addresses = { source: GUEST, destination: SERVER };
  const ports = { source: 1, destination: 2, sequence: 3, acknowledgment: 4 };
  const header = { ...ports, flags: 2, window: 5, mss: 1460, windowScale: 7 };
  const bytes = emitTcp(header, 0, addresses);
  return (random) => {
    const options = random.bytes(random.below(11) * 4).map((byte) =>
      random.chance(2) ? random.pick([0, 1, 2, 3, 4, 8, 10, byte]) : byte
    );
    const plain = emitTcp({ ...header, mss: undefined, windowScale: undefined }, 0, addresses);
    const made = concatenate(plain, options);
    made[12] = (made.length / 4) << 4;
    for (const input of [random.damage(bytes), made, random.damage(made)]) {
      const read = parseTcp(input);
      if (read === undefined) continue;
      assert(read.headerLength >= 20 && read.headerLength <= Math.min(60, input.length));
      assert((read.windowScale ?? 0) <= 14 && (read.mss ?? 0) <= 0xffff);
    }
    const udp = parseUdp(random.damage(emitUdp(ports, random.bytes(30), addresses)));
    assert(udp === undefined || udp.length >= 8);
    return 4;
  };
});

fuzz("net-dns", () => {
  const question = parseQuestion(emitQuestion(7, "api.example.com"))!;
  const answer = emitAnswer(question, 0, [{ address: SERVER, ttl: 60 }, { address: 1, ttl: 0 }]);
  // an alias, names by pointers to each other
  const compressed = concatenate(answer.slice(0, 12), question.bytes, [
    ...[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, 97, 0xc0, 16],
    ...[0xc0, 45, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 7],
  ] as unknown as Uint8Array);
  const long = emitQuestion(1, ["x".repeat(63), "y".repeat(63), "z".repeat(60)].join("."));
  return (random) => {
    for (const original of [answer, compressed, emitQuestion(1, "a.b.c"), long]) {
      const damaged = random.damage(original);
      const asked = parseQuestion(damaged);
      if (asked !== undefined) {
        assert(asked.name.length <= 255 && asked.bytes.length <= damaged.length);
        assert.match(asked.name, /^[\x21-\x7e]*$/);
        assert(asked.name.split(".").every((label) => label.length <= 63));
        assert.equal(parseAnswer(emitAnswer(asked, 3))!.name, asked.name);
      }
      const said = parseAnswer(damaged);
      if (said !== undefined) assert(said.addresses.length <= 256 && said.name.length <= 255);
    }
    return 4;
  };
});

fuzz("net-tls-hello", () => (random) => {
  const hello = clientHello(
    random.chance(4) ? undefined : random.pick(["a.example", "x".repeat(99)]),
  );
  const bytes = random.damage(hello);
  const whole = helloName(bytes);
  if (whole.kind === "name") assert.match(whole.name, /^[\x21-\x7e]{0,255}$/);
  // What is known of the first bytes holds for more of them.
  for (let at = 0; at < bytes.length; at += 1 + random.below(20)) {
    const part = helloName(bytes.subarray(0, at));
    if (part.kind !== "more") assert.deepEqual(part, whole, `${at} bytes`);
  }
  assert.notEqual(helloName(concatenate(bytes, new Uint8Array(MOST_HELLO))).kind, "more");
});

fuzz("net-http-host", () => (random) => {
  const words = [
    "GET / HTTP/1.1",
    "\r\n",
    "\n",
    "Host: a.example",
    "host :b",
    "HOST:",
    ":",
    " ",
    "x",
  ];
  const bytes = utf8.encode(
    `${random.chance(2) ? "GET / HTTP/1.1\r\n" : ""}${random.words(words, 9)}`,
  );
  const whole = httpHost(bytes);
  if (whole.kind === "name") assert.match(whole.name, /^[\x21-\x7e]{1,255}$/);
  for (let at = 0; at < bytes.length; at++) {
    const part = httpHost(bytes.subarray(0, at));
    if (part.kind === "name") assert.deepEqual(whole, part, "more bytes change whom it wants");
  }
  assert.notEqual(httpHost(concatenate(bytes, new Uint8Array(MOST_HEAD))).kind, "more");
});

// -- states ----------------------------------------------------------------------------------------

/** Segments, answers of the socket and times, in any order. */
fuzz("net-tcp-states", () => (random) => {
  const queue = random.pick([500, 4000, 1 << 20]);
  const start = random.pick([0, 0xffff_fff0, 1000]);
  let [available, unread, segment, closed] = [0, 0, 0, 0];
  const ports = { source: 40_000, destination: 80 };
  const syn = { ...ports, sequence: start, acknowledgment: 0, flags: 2, window: 500 };
  const connection = new TcpConnection({
    guestPort: 40_000,
    serverPort: 80,
    syn: {
      ...syn,
      mss: random.pick([1, 536, 1460]),
      windowScale: random.pick([undefined, 0, 7, 14]),
    },
    initialSequence: random.u32(),
    mss: 1460,
    unit: random.pick([99, 64_240]),
    queue,
    now: 0,
  }, {
    send(header, offset, length) {
      assert(closed === 0 || length === 0);
      assert(
        offset >= 0 && length >= 0 && offset + length <= available,
        "it sends what is not there",
      );
      assert(header.window >= 0 && header.window <= 0xffff);
      return length > 0 && random.chance(8) ? -1 : length > 1 && random.chance(8) ? 1 : length;
    },
    take(from, to) {
      assert(from >= 0 && from <= to && to <= segment);
      const waits = random.chance(2) ? to - from : 0;
      unread += waits;
      return waits;
    },
    keep: (from, to) => {
      assert(from >= 0 && from < to && to <= segment);
      return new Uint8Array(to - from);
    },
    takeKept(bytes) {
      unread += bytes.length;
      return bytes.length;
    },
    forget(bytes) {
      available -= bytes;
      assert(bytes > 0 && available >= 0, "it forgets what is not there");
    },
    end() {},
    closed: () => closed++,
  });
  let now = 0;
  for (let step = 0; step < 60; step++) {
    now += random.pick([0, 1, 300, 5000, 700_000]);
    switch (random.below(8)) {
      case 0:
        connection.dialed(now);
        break;
      case 1:
        if (closed === 0 && random.chance(2)) available += random.below(3000);
        connection.readable(available, random.chance(4), now);
        break;
      case 2: {
        const taken = random.below(unread + 1);
        unread -= taken;
        connection.written(taken);
        break;
      }
      case 3:
        connection.tick(now);
        break;
      case 4:
        connection.resume(now);
        break;
      default: {
        const { sequence, acknowledgment } = connection.numbers;
        segment = random.pick([0, 0, 1, 100, 1460, 65_000]);
        const near = (number: number) =>
          random.chance(10)
            ? random.u32()
            : (number + random.pick([0, 0, 0, 1, -1, 100, -100, 2000])) >>> 0;
        connection.segment(
          {
            ...ports,
            headerLength: 20,
            sequence: near(acknowledgment),
            acknowledgment: near(sequence),
            flags: random.chance(4) ? random.below(64) : TcpFlag.ACK,
            window: random.pick([0, 1, 500, 0xffff]),
          },
          segment,
          now,
        );
      }
    }
    if (random.chance(60)) connection.abort();
    assert.equal(connection.waiting, closed === 0 ? unread : connection.waiting);
    assert(connection.waiting <= queue, `${connection.waiting} bytes wait`);
    assert(closed <= 1 && (closed === 1) === (connection.state === "closed"));
  }
  return 60;
});

// -- the stack -------------------------------------------------------------------------------------

/** A frame that a guest could send, more or less. */
function frameOf(random: Random, net: Net): Uint8Array<ArrayBuffer> {
  const destination = random.pick([
    SERVER,
    GATEWAY,
    ip("198.51.100.9"),
    ip("127.0.0.1"),
    random.u32(),
  ]);
  const source = random.chance(12) ? random.u32() : GUEST;
  const from = random.pick([1000, 1001, 1002, 65_535]);
  const to = random.pick([53, 80, 443, 8080, 123, random.below(65_536)]);
  const message = random.pick([
    () => emitQuestion(random.below(65_536), random.pick(["api.example.com", "x.example", ""])),
    () => clientHello("api.example.com"),
    () => utf8.encode("GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"),
    () => random.bytes(random.below(3000)),
  ])();
  const known = net.segments().at(-1);
  const body = random.pick([
    () => emitUdp({ source: from, destination: to }, message, { source, destination }),
    () => emitIcmp({ type: random.pick([0, 3, 8]), code: 0, rest: random.u32(), data: message }),
    () => {
      const flags = random.chance(3) ? random.below(64) : random.pick([2, 16, 16, 24, 17, 4]);
      const ports = known !== undefined && random.chance(2)
        ? { source: known.destination, destination: known.source }
        : { source: from, destination: to };
      const numbers = known === undefined || random.chance(4)
        ? { sequence: random.pick([999, 1000, random.u32()]), acknowledgment: random.u32() }
        : {
          sequence: known.acknowledgment,
          acknowledgment: known.sequence + known.payload.length + (known.flags & 3 ? 1 : 0) >>> 0,
        };
      const header = emitTcp(
        { ...ports, ...numbers, flags, window: random.below(65_536), mss: 1460, windowScale: 7 },
        message.length,
        { source, destination },
      );
      return concatenate(header, message);
    },
  ]);
  const protocols = [Protocol.TCP, Protocol.UDP, Protocol.ICMP];
  const payload = body();
  const protocol = random.chance(20)
    ? random.below(256)
    : protocols[payload.length > 0 ? random.below(3) : 0]!;
  const frame = new Uint8Array(34 + payload.length);
  const type = random.chance(30) ? random.u32() & 0xffff : EtherType.IPV4;
  emitEthernet(frame, { destination: MAC, source: MAC, type });
  emitIpv4(frame.subarray(14), { protocol, source, destination, payload: payload.length });
  frame.set(payload, 34);
  return frame;
}

/** What the rest of the world does meanwhile. */
function world(random: Random, net: Net): void {
  const socket = net.sockets.dialed.filter(({ state }) => state === "open").at(
    -1 - random.below(3),
  );
  const peer = net.sockets.peers.filter(({ closed }) => !closed).at(-1);
  switch (random.below(9)) {
    case 0:
    case 1:
      return socket?.accept();
    case 2:
      return socket?.refuse(random.pick([104, 111, 113]));
    case 3:
      return socket?.say(random.bytes(random.below(5000)), random.chance(4));
    case 4:
      return socket?.open(random.pick([0, 10, Infinity]));
    case 5: {
      const question = peer?.got.length ? parseQuestion(peer.got[0]!) : undefined;
      const records = [{ address: random.pick([SERVER, ip("10.0.0.1"), random.u32()]), ttl: 1 }];
      const answer = question === undefined ? random.bytes(50) : emitAnswer(question, 0, records);
      return peer?.say(random.chance(3) ? random.damage(answer) : answer);
    }
    case 6:
      net.room = random.pick([0, 1, 5, Infinity]);
      return net.stack.ready();
    case 7:
      return net.clock.pass(random.pick([1, 300, 3000, 130_000]));
    default:
      if (random.chance(20)) net.stack.reset();
  }
}

fuzz("net-frames", () => (random) => {
  const name = { kind: "name", name: "api.example.com", subdomains: false } as const;
  const network = { kind: "network", address: SERVER, bits: 32 } as const;
  const policy = random.pick([
    OPEN,
    undefined,
    listed({ target: name }, { target: { kind: "host" }, port: 8080 }, {
      target: network,
      protocol: "udp",
    }),
  ]);
  const net = new Net(policy);
  for (let step = 0; step < 150; step++) {
    const frame = frameOf(random, net);
    const sent = random.chance(3) ? random.damage(frame, 3) : frame;
    if (random.chance(2) && sent.length >= 34) mendChecksum(sent.subarray(14));
    if (sent.length >= 14) net.send(sent);
    world(random, net);
    // What leaves is addressed to the guest, well-formed, and never too long.
    for (const frame of net.frames) {
      assert(frame.length <= net.largest);
      const packet = parseIpv4(frame.subarray(14));
      if (packet !== undefined) assert.equal(packet.destination, GUEST);
    }
    const { connections, bytesWaiting, flows, questions } = net.stack.counters();
    assert(connections! <= 1024 && bytesWaiting! <= 64 << 20 && flows! <= 256 && questions! <= 64);
  }
  if (policy === undefined) {
    assert.deepEqual([net.sockets.dialed.length, net.sockets.peers.length], [0, 0]);
  }
  for (const { address } of policy === OPEN ? net.sockets.dialed : []) {
    assert(address >>> 24 !== 10 && address >>> 24 !== 127, "the floor was crossed");
  }
  assert.deepEqual(net.stack.save(), JSON.parse(JSON.stringify(net.stack.save())));
  net[Symbol.dispose](); // fails where a socket is left
  return 150;
});

fuzz("net-capture", () => {
  const net = new Net(OPEN);
  assert.equal(pcapHeader().length, 24);
  return (random) => {
    const bytes = new Uint8Array(4096);
    const frame = random.damage(frameOf(random, net)).subarray(0, 4096);
    bytes.set(frame);
    const pieces = new Pieces(1);
    pieces.add(addressOf(bytes), frame.length);
    assert.match(traceFrame("from-guest", pieces), /^< /);
    assert.deepEqual(pcapRecord(pieces, 1e12).subarray(16), new Uint8Array(frame));
  };
});
