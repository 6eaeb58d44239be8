/**
 * The network of one guest: what is behind its network card. It takes frames and says what follows,
 * with sockets, a clock and a policy that are handed in.
 *
 * There is one neighbour, the gateway; whatever has another address is reached by it. ARP and ICMP
 * echo are answered for the gateway only; everything else is TCP, datagrams that a rule allows, and
 * questions to the gateway's resolver. What may not be is answered at once: by a reset, an ICMP
 * message, or REFUSED.
 *
 * @module
 */
import { Pieces } from "../../ffi/pieces.ts";
import type { DeviceState } from "../virtio/device.ts";
import { Gate, type GateOptions, type Interception } from "./gate.ts";
import type { Link, NetworkPort } from "./link.ts";
import type { Bandwidth } from "./limited.ts";
import { Resolver, type Upstream } from "./resolver.ts";
import { type LostConnection, lostConnections, MOST_CONNECTIONS } from "./saved.ts";
import type { Policy } from "./policy.ts";
import type { HostSockets } from "./sockets.ts";
import { TcpTable } from "./tcp_table.ts";
import type { Clock } from "./timer.ts";
import { type Addresses, ToGuest } from "./to_guest.ts";
import { type FlowEnds, UdpFlows } from "./udp_flows.ts";
import { ArpOperation, parseArp } from "./wire/arp.ts";
import { ETHERNET_HEADER, EtherType, parseEthernet } from "./wire/ethernet.ts";
import { emitIcmp, emitUnreachable, IcmpType, parseIcmp, Unreachable } from "./wire/icmp.ts";
import { emitIpv4, IPV4_HEADER, type Ipv4Header, parseIpv4, Protocol } from "./wire/ipv4.ts";
import { type ParsedTcp, parseTcp, TCP_HEADER_MOST } from "./wire/tcp.ts";
import { emitUdp, parseUdp, UDP_HEADER } from "./wire/udp.ts";

/** Bytes of a frame in which all headers are: IPv4's has at most 60. */
const MOST_HEADERS = ETHERNET_HEADER + 60 + TCP_HEADER_MOST;
/** Most bytes of an echo request, or of a question: none is longer on a link of usual size. */
const MOST_MESSAGE = 4096;
const DNS_PORT = 53;
const LOOPBACK = 0x7f00_0001;
/** Class D and above: multicast, reserved, broadcast. */
const MULTICAST = 0xe000_0000;

/** What a stack works with. */
export interface StackOptions extends GateOptions {
  /** On the link. */
  readonly addresses: Addresses;
  /** The host's sockets. */
  readonly sockets: HostSockets;
  /** The time. */
  readonly clock: Clock;
}

/** What the guest may do in a run. Structured-clonable. */
export interface NetworkSettings extends Bandwidth {
  /** The rules; undefined for no network at all. */
  readonly policy: Policy | undefined;
  /** Resolvers that are asked for the guest. */
  readonly upstreams: readonly Upstream[];
  /** Hosts that are reached by way of somebody on this host, who puts secrets in. */
  readonly interception?: Interception | undefined;
  /** Path of a capture file with its header, to which the frames are added; none when absent. */
  readonly capture?: string | undefined;
}

/** See the module. */
export class NetworkStack implements NetworkPort<NetworkSettings> {
  readonly #options: StackOptions;
  readonly #toGuest: ToGuest;
  readonly #gate: Gate;
  readonly #tcp: TcpTable;
  readonly #udp: UdpFlows;
  readonly #resolver: Resolver;
  readonly #headers = new Uint8Array(MOST_HEADERS);
  readonly #payload = new Pieces();
  /** Connections of a snapshot that the guest has not been told to be gone. */
  #lost: readonly LostConnection[] = [];
  /** Frames that made no sense, or of a protocol that is not spoken here. */
  #ignored = 0;
  /** Frames with a source that is not the guest's. */
  #spoofed = 0;

  /**
   * @param link to the guest
   * @param options what it works with
   */
  constructor(link: Link, options: StackOptions) {
    const { addresses, sockets, clock } = options;
    this.#options = options;
    this.#toGuest = new ToGuest(link, addresses);
    this.#gate = new Gate(options);
    const gate = this.#gate;
    this.#tcp = new TcpTable({
      toGuest: this.#toGuest,
      sockets,
      gate,
      addresses,
      clock,
      unreachable: (syn, address) => this.#synUnreachable(syn, address),
    });
    this.#udp = new UdpFlows(sockets, clock, (ends, bytes) => this.#datagram(ends, bytes));
    this.#resolver = new Resolver({ sockets, gate, clock });
  }

  configure({ policy, upstreams, interception }: NetworkSettings): void {
    this.#drop(); // what the settings before allowed
    this.#gate.use(policy, interception);
    this.#resolver.upstreams = upstreams;
  }

  counters(): Readonly<Record<string, number>> {
    return {
      connections: this.#tcp.size,
      connectionsOpened: this.#tcp.opened,
      connectionsRefused: this.#tcp.tooMany,
      bytesWaiting: this.#tcp.waiting,
      flows: this.#udp.size,
      questions: this.#resolver.pending,
      questionsRefused: this.#resolver.tooMany,
      pins: this.#gate.pins,
      denied: this.#gate.denied,
      ignored: this.#ignored,
      spoofed: this.#spoofed,
      lost: this.#toGuest.lost,
    };
  }

  // -- from the guest ----------------------------------------------------------------------------

  flush(): void {
    this.#tcp.flush();
  }

  receive(frame: Pieces): void {
    const headers = this.#headers.subarray(0, frame.read(this.#headers));
    const packet = headers.subarray(ETHERNET_HEADER);
    switch (parseEthernet(headers)?.type) {
      case EtherType.ARP:
        return this.#arp(packet);
      case EtherType.IPV4:
        return this.#ipv4(frame, packet);
      default:
        this.#ignored++;
    }
  }

  #arp(bytes: Uint8Array): void {
    const arp = parseArp(bytes);
    const { gateway, guest } = this.#options.addresses;
    if (arp === undefined || arp.operation !== ArpOperation.REQUEST || arp.target !== gateway) {
      this.#ignored++;
    } else if (arp.sender !== guest) this.#spoofed++;
    else this.#toGuest.arpReply(arp.sender, arp.senderMac.slice());
  }

  #ipv4(frame: Pieces, bytes: Uint8Array): void {
    const ip = parseIpv4(bytes, frame.length - ETHERNET_HEADER);
    if (ip === undefined || ip.isFragment) {
      this.#ignored++;
      return;
    }
    if (ip.source !== this.#options.addresses.guest) {
      this.#spoofed++;
      return;
    }
    // What is for several is for nobody here, and not answered (RFC 1122 section 3.2.2).
    if (ip.destination >= MULTICAST) {
      this.#ignored++;
      return;
    }
    switch (ip.protocol) {
      case Protocol.TCP:
        return this.#segment(frame, ip, bytes);
      case Protocol.UDP:
        return this.#userDatagram(frame, ip, bytes);
      case Protocol.ICMP:
        return this.#icmp(frame, ip);
      default:
        this.#ignored++;
    }
  }

  #segment(frame: Pieces, ip: Ipv4Header, bytes: Uint8Array): void {
    const tcp = parseTcp(bytes.subarray(ip.headerLength, ip.totalLength));
    if (tcp === undefined) {
      this.#ignored++;
      return;
    }
    const payload = ip.headerLength + tcp.headerLength;
    this.#tcp.segment(ip, tcp, frame, ETHERNET_HEADER + payload, ip.totalLength - payload);
  }

  #userDatagram(frame: Pieces, ip: Ipv4Header, bytes: Uint8Array): void {
    const available = ip.totalLength - ip.headerLength;
    const udp = parseUdp(bytes.subarray(ip.headerLength, ip.totalLength), available);
    if (udp === undefined) {
      this.#ignored++;
      return;
    }
    const { gateway } = this.#options.addresses;
    const start = ETHERNET_HEADER + ip.headerLength + UDP_HEADER;
    const payload = frame.slice(start, udp.length - UDP_HEADER, this.#payload);
    const { source: guestPort, destination: port } = udp;
    const { destination: address } = ip;
    const isHost = address === gateway;
    if (isHost && port === DNS_PORT) return this.#question(payload, guestPort);
    const gate = this.#gate;
    if (!gate.isOpen) return this.#refuse(ip, bytes, Unreachable.NETWORK);
    const allowed = isHost
      ? gate.host(port, "udp").allowed
      : gate.reach(address, port, this.#options.clock.now(), "udp").allowed;
    const hostAddress = isHost ? LOOPBACK : address;
    const isSent = allowed && this.#udp.send({ guestPort, address, port, hostAddress }, payload);
    if (!isSent) this.#refuse(ip, bytes, Unreachable.PORT);
  }

  #question(message: Pieces, guestPort: number): void {
    if (message.length > MOST_MESSAGE) {
      this.#ignored++;
      return;
    }
    const { gateway } = this.#options.addresses;
    this.#resolver.ask(message.bytes(), (answer) => {
      this.#sendDatagram(gateway, DNS_PORT, guestPort, answer);
    });
  }

  #datagram({ address, port, guestPort }: FlowEnds, bytes: Uint8Array): void {
    this.#sendDatagram(address, port, guestPort, bytes);
  }

  #sendDatagram(address: number, source: number, destination: number, bytes: Uint8Array): void {
    const addresses = { source: address, destination: this.#options.addresses.guest };
    const datagram = emitUdp({ source, destination }, bytes, addresses);
    this.#toGuest.packet(Protocol.UDP, address, datagram);
  }

  #icmp(frame: Pieces, ip: Ipv4Header): void {
    const { gateway } = this.#options.addresses;
    const length = ip.totalLength - ip.headerLength;
    const isEcho = ip.destination === gateway && length <= MOST_MESSAGE;
    const start = ETHERNET_HEADER + ip.headerLength;
    const icmp = isEcho ? parseIcmp(frame.slice(start, length, this.#payload).bytes()) : undefined;
    if (icmp?.type !== IcmpType.ECHO_REQUEST) {
      this.#ignored++;
      return;
    }
    const reply = emitIcmp({ ...icmp, type: IcmpType.ECHO_REPLY, code: 0 });
    this.#toGuest.packet(Protocol.ICMP, gateway, reply);
  }

  /** Says that a packet cannot be delivered. */
  #refuse(ip: Ipv4Header, packet: Uint8Array, code: number): void {
    const message = emitUnreachable(code, packet, ip.headerLength);
    this.#toGuest.packet(Protocol.ICMP, this.#options.addresses.gateway, message);
  }

  /** The same of a SYN whose packet is no longer there: what programs' kernels look at is. */
  #synUnreachable(syn: ParsedTcp, destination: number): void {
    const { guest: source, gateway } = this.#options.addresses;
    const packet = new Uint8Array(IPV4_HEADER + 8);
    emitIpv4(packet, { protocol: Protocol.TCP, source, destination, payload: 20 });
    const view = new DataView(packet.buffer, IPV4_HEADER);
    view.setUint16(0, syn.source);
    view.setUint16(2, syn.destination);
    view.setUint32(4, syn.sequence);
    const code = this.#gate.isOpen ? Unreachable.HOST : Unreachable.NETWORK;
    this.#toGuest.packet(Protocol.ICMP, gateway, emitUnreachable(code, packet, IPV4_HEADER));
  }

  // -- life --------------------------------------------------------------------------------------

  ready(): void {
    for (const lost of this.#lost) this.#tcp.reset(lost);
    this.#lost = [];
    if (this.#toGuest.flush()) this.#tcp.ready();
  }

  reset(): void {
    this.#drop();
    this.#toGuest.clear();
    this.#lost = [];
  }

  #drop(): void {
    this.#tcp.clear();
    this.#udp.clear();
    this.#resolver.clear();
  }

  save(): DeviceState {
    const connections = [...this.#lost, ...this.#tcp.save()].slice(0, MOST_CONNECTIONS);
    return connections.map(({ guestPort, address, port, sequence, acknowledgment }) => ({
      guestPort,
      address,
      port,
      sequence,
      acknowledgment,
    }));
  }

  restore(state: DeviceState): void {
    this.#lost = lostConnections(state);
  }

  [Symbol.dispose](): void {
    this.#tcp[Symbol.dispose]();
    this.#udp[Symbol.dispose]();
    this.#resolver[Symbol.dispose]();
  }
}
