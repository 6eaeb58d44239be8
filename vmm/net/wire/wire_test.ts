/** Against packets that others made: RFC examples, and captures of Linux's own stack written out. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { emitArp, parseArp } from "./arp.ts";
import { checksumOf, foldSum, pseudoSum, sumWords } from "./checksum.ts";
import { DnsCode, DnsType, emitAnswer, emitQuestion, parseAnswer, parseQuestion } from "./dns.ts";
import { emitEthernet, EtherType, parseEthernet } from "./ethernet.ts";
import { emitIcmp, IcmpType, parseIcmp } from "./icmp.ts";
import { emitIpv4, formatIpv4, parseAddress, parseIpv4, Protocol } from "./ipv4.ts";
import { emitTcp, parseTcp, TCP_CHECKSUM, TcpFlag } from "./tcp.ts";
import { emitUdp, parseUdp } from "./udp.ts";

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));
const byte = fc.integer({ min: 0, max: 255 });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.nat({ max: 0xffff_ffff });

Deno.test("the checksum is that of RFC 1071's example, whatever the order of its bytes", () => {
  const bytes = hex("0001 f203 f4f5 f6f7"); // section 3
  assert.equal(foldSum(sumWords(bytes)), 0xddf2);
  assert.equal(checksumOf(sumWords(bytes)), 0x220d);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 99 }), (bytes) => {
    const sum = checksumOf(sumWords(bytes));
    const even = bytes.length % 2 === 0 ? bytes : Uint8Array.of(...bytes, 0);
    assert.equal(foldSum(sumWords(Uint8Array.of(...even, sum >> 8, sum & 255))), 0xffff);
  }));
});

Deno.test("an IPv4 header as Linux sends it is read, and ours says the same", () => {
  const packet = hex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7");
  const header = parseIpv4(packet, 0x73)!;
  assert.deepEqual(header, {
    headerLength: 20,
    totalLength: 0x73,
    isFragment: false,
    protocol: Protocol.UDP,
    source: parseAddress("192.168.0.1"),
    destination: parseAddress("192.168.0.199"),
  });
  const ours = new Uint8Array(20);
  emitIpv4(ours, { ...header, payload: 0x73 - 20 });
  assert.deepEqual(ours, packet);
  assert.equal(parseIpv4(packet, 0x72), undefined, "cut off");
  for (let bit = 0; bit < 160; bit++) {
    const damaged = packet.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(parseIpv4(damaged, 0xffff), undefined, `bit ${bit}`);
  }
});

Deno.test("IPv4: what was written is read", () => {
  fc.assert(
    fc.property(byte, u32, u32, fc.nat(65_515), (protocol, source, destination, payload) => {
      const bytes = new Uint8Array(20);
      emitIpv4(bytes, { protocol, source, destination, payload });
      const header = parseIpv4(bytes, 65_535)!;
      const totalLength = 20 + payload;
      assert.deepEqual(header, {
        ...{ headerLength: 20, totalLength, isFragment: false },
        ...{ protocol, source, destination },
      });
      assert.equal(parseAddress(formatIpv4(source)), source);
    }),
  );
});

Deno.test("no bytes make a parser of packets throw, or tell of more than there is", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 90 }), (bytes) => {
      parseEthernet(bytes);
      parseArp(bytes);
      parseIcmp(bytes);
      const ip = parseIpv4(bytes);
      assert(ip === undefined || ip.totalLength <= bytes.length);
      const tcp = parseTcp(bytes);
      assert(tcp === undefined || tcp.headerLength <= bytes.length);
      const udp = parseUdp(bytes);
      assert(udp === undefined || udp.length <= bytes.length);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("ARP: a request of Linux is read, and what was written is read", () => {
  const request = hex("0001 0800 0604 0001 5254 0012 3456 0a00 020f 0000 0000 0000 0a00 0202");
  const arp = parseArp(request)!;
  assert.equal(formatIpv4(arp.target), "10.0.2.2");
  assert.equal(formatIpv4(arp.sender), "10.0.2.15");
  assert.deepEqual(emitArp(arp), request);
  for (const at of [1, 3, 4, 5]) {
    const other = request.slice();
    other[at]! ^= 1;
    assert.equal(parseArp(other), undefined);
  }
});

Deno.test("Ethernet: what was written is read", () => {
  const header = {
    destination: hex("525400123456"),
    source: hex("02c000000001"),
    type: EtherType.ARP,
  };
  const bytes = new Uint8Array(14);
  emitEthernet(bytes, header);
  assert.deepEqual(parseEthernet(bytes), header);
  assert.equal(parseEthernet(bytes.subarray(0, 13)), undefined);
});

Deno.test("TCP: a SYN of Linux is read with its options", () => {
  const syn = hex(`a4b6 0050 1c2d 3e4f 0000 0000 a002 faf0 fe30 0000
    0204 05b4 0402 080a 0102 0304 0000 0000 0103 0307`);
  assert.deepEqual(parseTcp(syn), {
    headerLength: 40,
    source: 0xa4b6,
    destination: 80,
    sequence: 0x1c2d3e4f,
    acknowledgment: 0,
    flags: TcpFlag.SYN,
    window: 64_240,
    mss: 1460,
    windowScale: 7,
  });
  // Options that are cut off, or of no length, end the reading of options, and nothing else.
  for (const options of ["0200 0000", "0205 0500", "03ff 0000", "0201 05b4", "0100 0002"]) {
    const bytes = Uint8Array.of(
      ...syn.subarray(0, 20),
      ...hex(options + "00000000").subarray(0, 4),
    );
    bytes[12] = 0x60;
    const tcp = parseTcp(bytes)!;
    assert.deepEqual([tcp.mss, tcp.windowScale, tcp.headerLength], [undefined, undefined, 24]);
  }
});

Deno.test("TCP: what was written is read, with the checksum of the pseudo header", () => {
  const option = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
  fc.assert(fc.property(
    fc.record({
      source: u16,
      destination: u16,
      sequence: u32,
      acknowledgment: u32,
      flags: fc.nat(63),
      window: u16,
      mss: option(u16),
      windowScale: option(fc.nat(14)),
    }, { noNullPrototype: true }),
    fc.nat(65_000),
    u32,
    u32,
    (header, payload, source, destination) => {
      const bytes = emitTcp(header, payload, { source, destination });
      const { headerLength, ...read } = parseTcp(bytes)!;
      assert.deepEqual(read, header);
      assert.equal(headerLength, bytes.length);
      const sum = bytes[TCP_CHECKSUM]! << 8 | bytes[TCP_CHECKSUM + 1]!;
      const length = bytes.length + payload;
      assert.equal(sum, foldSum(pseudoSum(source, destination, Protocol.TCP, length)));
    },
  ));
});

Deno.test("UDP: what was written is read, and its checksum is right", () => {
  fc.assert(fc.property(
    fc.record({ source: u16, destination: u16 }),
    fc.uint8Array({ maxLength: 99 }),
    u32,
    u32,
    (ports, payload, source, destination) => {
      const bytes = emitUdp(ports, payload, { source, destination });
      assert.deepEqual(parseUdp(bytes), { ...ports, length: bytes.length });
      const pseudo = pseudoSum(source, destination, Protocol.UDP, bytes.length);
      assert.equal(foldSum(sumWords(bytes, pseudo)), 0xffff);
    },
  ));
});

Deno.test("ICMP: an echo request of Linux is read and answered as Linux does", () => {
  const request = hex("0800 f7fc 0001 0002 0000");
  const echo = parseIcmp(request)!;
  assert.deepEqual([echo.type, echo.rest], [IcmpType.ECHO_REQUEST, 0x0001_0002]);
  const reply = emitIcmp({ ...echo, type: IcmpType.ECHO_REPLY });
  assert.equal(foldSum(sumWords(reply)), 0xffff);
  assert.deepEqual(parseIcmp(reply), { ...echo, type: IcmpType.ECHO_REPLY });
  request[9]! ^= 1;
  assert.equal(parseIcmp(request), undefined);
});

Deno.test("DNS: a question of glibc is read, and its answer by who asks", () => {
  const bytes = hex(`1a2b 0120 0001 0000 0000 0001
    0377 7777 0765 7861 6d70 6c65 0363 6f6d 00 0001 0001
    00 0029 04d0 0000 0000 0000`);
  const question = parseQuestion(bytes)!;
  assert.equal(question.name, "www.example.com");
  assert.deepEqual([question.id, question.type, question.isStandard], [0x1a2b, DnsType.A, true]);
  const addresses = [{ address: 0x01020304, ttl: 60 }, { address: 0xfffefdfc, ttl: 0 }];
  assert.deepEqual(parseAnswer(emitAnswer(question, DnsCode.NO_ERROR, addresses)), {
    id: 0x1a2b,
    code: 0,
    truncated: false,
    name: "www.example.com",
    addresses,
  });
  assert.deepEqual(parseAnswer(emitAnswer(question, DnsCode.REFUSED))!.code, DnsCode.REFUSED);
  assert.equal(parseQuestion(emitAnswer(question, 0)), undefined, "no answer to an answer");
});

Deno.test("DNS: addresses are those of the name and of its aliases, and of no other", () => {
  // www.example.com CNAME a.example.net; a.example.net A 192.0.2.1; evil.example A 192.0.2.66
  const answer = hex(`0001 8180 0001 0003 0000 0000
    0377 7777 0765 7861 6d70 6c65 0363 6f6d 00 0001 0001
    c00c 0005 0001 0000 003c 000f 0161 0765 7861 6d70 6c65 036e 6574 00
    c02d 0001 0001 0000 003c 0004 c000 0201
    0465 7669 6c07 6578 616d 706c 6500 0001 0001 0000 003c 0004 c000 0242`);
  assert.deepEqual(parseAnswer(answer)!.addresses, [{ address: 0xc0000201, ttl: 60 }]);
});

Deno.test("DNS: names keep their bounds, pointers their number, and nothing throws", () => {
  const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
  fc.assert(fc.property(u16, fc.array(label, { maxLength: 9 }), (id, labels) => {
    const question = parseQuestion(emitQuestion(id, labels.join(".")))!;
    assert.deepEqual([question.id, question.name], [id, labels.join(".")]);
  }));
  const loop = hex(
    "0001 8180 0001 0001 0000 0000 00 0001 0001 c011 0001 0001 0000 0000 0004 00000000",
  );
  assert.deepEqual(parseAnswer(loop)!.addresses, []);
  const long = emitQuestion(1, Array.from({ length: 5 }, () => "a".repeat(60)).join("."));
  assert.equal(parseQuestion(long), undefined, "more than 255 bytes");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, framed) => {
      const head = hex("0001 8180 0001 0002 0000 0000");
      const message = framed ? Uint8Array.of(...head, ...bytes) : bytes;
      parseQuestion(message);
      parseAnswer(message);
    }),
    { numRuns: 3000 },
  );
});
