/**
 * Frames as lines that people read.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import type { Direction } from "./watched.ts";
import { ArpOperation, parseArp } from "./wire/arp.ts";
import { ETHERNET_HEADER, EtherType, parseEthernet } from "./wire/ethernet.ts";
import { formatIpv4, type Ipv4Header, parseIpv4, Protocol } from "./wire/ipv4.ts";
import { parseTcp, TcpFlag } from "./wire/tcp.ts";
import { parseUdp } from "./wire/udp.ts";

/** What a frame says, such as `< 192.0.2.15:40000 > 203.0.113.7:80 SYN seq 1 len 0`. */
export function traceFrame(direction: Direction, frame: Pieces): string {
  const bytes = frame.bytes();
  return `${direction === "from-guest" ? "<" : ">"} ${traceEthernet(bytes)}`;
}

function traceEthernet(bytes: Uint8Array): string {
  const body = bytes.subarray(ETHERNET_HEADER);
  const type = parseEthernet(bytes)?.type;
  if (type === EtherType.ARP) {
    const arp = parseArp(body);
    if (arp === undefined) return "ARP?";
    const { operation, sender, target } = arp;
    const what = operation === ArpOperation.REQUEST ? "who has" : "to";
    return `ARP ${formatIpv4(sender)} ${what} ${formatIpv4(target)}`;
  }
  const ip = type === EtherType.IPV4 ? parseIpv4(body) : undefined;
  if (ip !== undefined) return traceIpv4(ip, body.subarray(ip.headerLength, ip.totalLength));
  return `type 0x${type?.toString(16) ?? "?"}, ${bytes.length} bytes`;
}

function traceIpv4(ip: Ipv4Header, body: Uint8Array): string {
  const [source, destination] = [formatIpv4(ip.source), formatIpv4(ip.destination)];
  const tcp = ip.protocol === Protocol.TCP ? parseTcp(body) : undefined;
  if (tcp !== undefined) {
    const flags = Object.entries(TcpFlag).filter(([, bit]) => (tcp.flags & bit) !== 0)
      .map(([name]) => name).join(",");
    const { sequence, acknowledgment, window } = tcp;
    const numbers = `seq ${sequence} ack ${acknowledgment} win ${window}`;
    const length = body.length - tcp.headerLength;
    return `${source}:${tcp.source} > ${destination}:${tcp.destination} ${flags} ${numbers} len ${length}`;
  }
  const udp = ip.protocol === Protocol.UDP ? parseUdp(body) : undefined;
  if (udp !== undefined) {
    return `${source}:${udp.source} > ${destination}:${udp.destination} UDP len ${udp.length}`;
  }
  return `${source} > ${destination} protocol ${ip.protocol} len ${body.length}`;
}
