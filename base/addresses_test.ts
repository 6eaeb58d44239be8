import { equal } from "node:assert/strict";
import fc from "fast-check";
import { addressKind, hostAddress, isLoopback, isRegistryHost } from "./addresses.ts";

const KINDS: Readonly<Record<string, readonly string[]>> = {
  public: [
    ...["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"],
    ...["126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"],
    ...["172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255"],
    ...["198.20.0.0", "223.255.255.255", "1.0.0.0"],
    ...[
      "2000::",
      "2606:4700::1111",
      "2a00::1",
      "2001:200::",
      "2003::",
      "3ffe:ffff::",
      "3fff:1000::",
    ],
    ...["::ffff:8.8.8.8", "::ffff:808:808", "64:ff9b::8.8.8.8", "::FFFF:0808:0808"],
  ],
  unspecified: ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::0.0.0.0", "::ffff:0.0.0.0"],
  loopback: [
    ...["127.0.0.1", "127.0.0.0", "127.255.255.255", "::1", "0:0:0:0:0:0:0:1", "::0001"],
    ...["::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:127.0.0.1", "64:ff9b::7f00:1"],
  ],
  private: [
    ...["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1"],
    ...["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "fec0::1", "feff::1"],
  ],
  shared: ["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"],
  "link-local": [
    ...["169.254.169.254", "169.254.0.0", "169.254.255.255", "fe80::1", "febf::1"],
    ...["fe80::1%eth0", "fe80::a9fe:a9fe%2", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"],
  ],
  "unique-local": ["fc00::", "fd00:ec2::254", "fdff:ffff::1"],
  multicast: ["224.0.0.1", "239.255.255.255", "ff02::1", "ffff::"],
  broadcast: ["255.255.255.255", "::ffff:255.255.255.255"],
  documentation: ["192.0.2.1", "198.51.100.255", "203.0.113.0", "2001:db8::1", "3fff:fff::1"],
  benchmarking: ["198.18.0.0", "198.19.255.255", "2001:2::1"],
  reserved: [
    ...["0.0.0.1", "0.255.255.255", "192.0.0.1", "192.88.99.1", "240.0.0.1", "255.255.255.254"],
    ...["::2", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:2::1", "100::1", "1fff::1", "4000::"],
    ...[
      "2001::1",
      "2001:1ff::1",
      "2002:7f00:1::",
      "2002:808:808::",
      "5f00::1",
      "fb00::",
      "fe00::1",
    ],
  ],
};

for (const [kind, addresses] of Object.entries(KINDS)) {
  Deno.test(`${addresses.length} addresses are ${kind}`, () => {
    for (const address of addresses) equal(addressKind(address), kind, address);
  });
}

Deno.test("what is no address has no kind", () => {
  for (
    const text of [
      ...["", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "0x7f.0.0.1", "1.2.3.4 "],
      ...["2130706433", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::12345"],
      ...["::1.2.3", "1.2.3.4::", "::1.2.3.4:5", "[::1]", "g::", "1:2:3:4:5:6:7:8::", "::-1"],
    ]
  ) equal(addressKind(text), undefined, text);
});

Deno.test("an address means the same however it is written", () => {
  fc.assert(fc.property(fc.ipV6(), (text) => {
    const usual = new URL(`http://[${text}]/`).hostname.slice(1, -1);
    equal(addressKind(text), addressKind(usual));
  }));
  fc.assert(fc.property(fc.nat({ max: 2 ** 32 - 1 }), (number) => {
    const bytes = [24, 16, 8, 0].map((shift) => number >>> shift & 255);
    const usual = bytes.join(".");
    const hex = `0x${number.toString(16)}`;
    const octal = bytes.map((byte) => `0${byte.toString(8)}`).join(".");
    for (const text of [usual, String(number), hex, octal, `${usual}.`, hex.toUpperCase()]) {
      equal(hostAddress(text), usual, text);
    }
    equal(addressKind(`::ffff:${usual}`), addressKind(usual));
  }));
});

Deno.test("hosts are addresses in every form that a URL takes, and names are not", () => {
  for (
    const [host, address] of [
      ["127.1", "127.0.0.1"],
      ["0x7f.1", "127.0.0.1"],
      ["017700000001", "127.0.0.1"],
      ["0", "0.0.0.0"],
      ["169.254.43518", "169.254.169.254"],
      ["１２７.0.0.1", "127.0.0.1"], // full-width digits
      ["127。0。0。1", "127.0.0.1"], // ideographic full stops
      ["[::1]", "::1"],
      ["::1", "::1"],
      ["[::FFFF:127.0.0.1]", "::ffff:127.0.0.1"],
      ["localhost", undefined],
      ["a.example", undefined],
      ["1.2.3.4.example", undefined],
      ["a@127.0.0.1", undefined],
      ["127.0.0.1/x", undefined],
      ["127.0.0.1:80", undefined],
      ["", undefined],
      ["256.1.1.1", undefined],
    ] as const
  ) equal(hostAddress(host), address, host);
});

Deno.test("loopback hosts are known by name and by address", () => {
  for (
    const host of ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "127.1"]
  ) {
    equal(isLoopback(host), true, host);
  }
  for (const host of ["", "localhost.example", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example"]) {
    equal(isLoopback(host), false, host);
  }
});

Deno.test("a registry's host is one as in the name of an image", () => {
  for (const host of ["docker.io", "localhost", "team.example:5000", "10.0.0.5:1", "[fd00::1]:5"]) {
    equal(isRegistryHost(host), true, host);
  }
  for (
    const host of ["", "a/b", "https://a", "a:b", "a:99999", "u@a", "::1", "[::1", "a b", "a:"]
  ) {
    equal(isRegistryHost(host), false, host);
  }
});
