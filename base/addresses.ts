/**
 * What an IP address is for, by IANA's special-purpose address registries: of what a client names,
 * only public addresses are dialled unasked.
 *
 * @module
 */

/** What an address is for. */
export type AddressKind =
  | "public"
  | "unspecified"
  | "loopback"
  | "private"
  | "shared"
  | "link-local"
  | "unique-local"
  | "multicast"
  | "broadcast"
  | "documentation"
  | "benchmarking"
  | "reserved";

/** https://www.iana.org/assignments/iana-ipv4-special-registry; the longest prefix decides. */
const IPV4: readonly (readonly [prefix: string, kind: AddressKind])[] = [
  ["0.0.0.0/0", "public"],
  ["0.0.0.0/8", "reserved"], // RFC 791: "this network"
  ["0.0.0.0/32", "unspecified"],
  ["10.0.0.0/8", "private"], // RFC 1918
  ["100.64.0.0/10", "shared"], // RFC 6598: carrier-grade NAT
  ["127.0.0.0/8", "loopback"],
  ["169.254.0.0/16", "link-local"], // RFC 3927; clouds have their metadata there
  ["172.16.0.0/12", "private"],
  ["192.0.0.0/24", "reserved"], // RFC 6890: IETF protocol assignments
  ["192.0.2.0/24", "documentation"], // RFC 5737
  ["192.88.99.0/24", "reserved"], // RFC 7526: once 6to4 relays
  ["192.168.0.0/16", "private"],
  ["198.18.0.0/15", "benchmarking"], // RFC 2544
  ["198.51.100.0/24", "documentation"],
  ["203.0.113.0/24", "documentation"],
  ["224.0.0.0/4", "multicast"], // RFC 5771
  ["240.0.0.0/4", "reserved"], // RFC 1112
  ["255.255.255.255/32", "broadcast"],
];

/** https://www.iana.org/assignments/iana-ipv6-special-registry, and the address space itself. */
const IPV6: readonly (readonly [prefix: string, kind: AddressKind | "embedded"])[] = [
  ["::/0", "reserved"], // RFC 4291: only 2000::/3 was given out
  ["::/128", "unspecified"],
  ["::1/128", "loopback"],
  ["::ffff:0:0/96", "embedded"], // RFC 4291: an IPv4 address, which the kernel dials
  ["64:ff9b::/96", "embedded"], // RFC 6052: a translator dials it
  ["64:ff9b:1::/48", "private"], // RFC 8215: a translator of one's own
  ["2000::/3", "public"],
  ["2001::/23", "reserved"], // RFC 2928: protocol assignments, Teredo among them
  ["2001:2::/48", "benchmarking"], // RFC 5180
  ["2001:db8::/32", "documentation"], // RFC 3849
  ["2002::/16", "reserved"], // RFC 7526: 6to4, which can hold any IPv4 address
  ["3fff::/20", "documentation"], // RFC 9637
  ["fc00::/7", "unique-local"], // RFC 4193
  ["fe80::/10", "link-local"],
  ["fec0::/10", "private"], // RFC 3879: once site-local
  ["ff00::/8", "multicast"],
];

/** The four bytes of an IPv4 address; undefined for what is not four decimal numbers. */
export function ipv4Bytes(text: string): number[] | undefined {
  if (!/^(?:(?:0|[1-9]\d{0,2})\.){3}(?:0|[1-9]\d{0,2})$/.test(text)) return undefined;
  const bytes = text.split(".").map(Number);
  return bytes.every((byte) => byte < 256) ? bytes : undefined;
}

/** RFC 4291 section 2.2: groups in hex, `::` for zeros, the last two groups maybe as IPv4. */
function ipv6Bytes(text: string): number[] | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const parts = halves.map((half) => half === "" ? [] : half.split(":"));
  const bytes = parts.map((groups, half) =>
    groups.flatMap((group, i) => {
      if (/^[0-9a-f]{1,4}$/i.test(group)) {
        const value = Number.parseInt(group, 16);
        return [value >> 8, value & 255];
      }
      const isLast = half === parts.length - 1 && i === groups.length - 1;
      return (isLast ? ipv4Bytes(group) : undefined) ?? [NaN];
    })
  );
  const [head = [], tail = []] = bytes;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined;
  const all = [...head, ...Array<number>(missing).fill(0), ...tail];
  return all.some(Number.isNaN) ? undefined : all;
}

type Ranges<Kind> = readonly { bytes: readonly number[]; bits: number; kind: Kind }[];

function rangesOf<Kind>(
  table: readonly (readonly [prefix: string, kind: Kind])[],
  bytesOf: (text: string) => number[] | undefined,
): Ranges<Kind> {
  return table.map(([prefix, kind]) => {
    const [address = "", bits] = prefix.split("/");
    return { bytes: bytesOf(address)!, bits: Number(bits), kind };
  });
}

const ranges4 = rangesOf(IPV4, ipv4Bytes);
const ranges6 = rangesOf(IPV6, ipv6Bytes);

function lookUp<Kind>(bytes: readonly number[], ranges: Ranges<Kind>): Kind {
  const holds = ({ bytes: prefix, bits }: Ranges<Kind>[number]) =>
    prefix.every((byte, i) => {
      const mask = 0xff00 >> Math.min(8, Math.max(0, bits - 8 * i)) & 255;
      return (byte & mask) === (bytes[i]! & mask);
    });
  return ranges.filter(holds).reduce((best, range) => range.bits > best.bits ? range : best).kind;
}

/**
 * What an address is for.
 *
 * @param address as resolvers write it, such as `10.0.0.1` or `fe80::1%eth0`
 * @returns undefined for what is no address
 */
export function addressKind(address: string): AddressKind | undefined {
  const four = ipv4Bytes(address);
  if (four !== undefined) return lookUp(four, ranges4);
  const six = ipv6Bytes(address.replace(/%.*$/, ""));
  if (six === undefined) return undefined;
  const kind = lookUp(six, ranges6);
  return kind === "embedded" ? lookUp(six.slice(12), ranges4) : kind;
}

/**
 * The address that a host is without any look-up, in its usual form: `0x7f.1` and `2130706433` are
 * 127.0.0.1 as well.
 *
 * @param host name or address; IPv6 with or without brackets
 * @returns undefined for a name
 */
export function hostAddress(host: string): string | undefined {
  const plain = host.replace(/^\[(.*)\]$/, "$1");
  if (ipv6Bytes(plain) !== undefined) return plain.toLowerCase();
  // The URL standard's host parser is what everything that dials a URL uses.
  if (!/^[^\s:/?#@\\%]+$/.test(plain) || !URL.canParse(`http://${plain}/`)) return undefined;
  const { hostname } = new URL(`http://${plain}/`);
  return ipv4Bytes(hostname) === undefined ? undefined : hostname;
}

/** Whether what is sent to a host stays on this one: 127.0.0.0/8, ::1 and `localhost`. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === "localhost") return true;
  const address = hostAddress(host);
  return address !== undefined && addressKind(address) === "loopback";
}

/** Whether a text is a host as in the name of an image: `HOST[:PORT]`, IPv6 in brackets. */
export function isRegistryHost(text: string): boolean {
  return /^([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(text) &&
    URL.canParse(`https://${text}`);
}
