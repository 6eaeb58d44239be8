/**
 * The guest's TCP connections: finds the one that a segment is of, makes those that the policy
 * allows, and bounds them all together.
 *
 * @module
 */
import type { Pieces } from "../../ffi/pieces.ts";
import type { Gate, Interception, Verdict } from "./gate.ts";
import { Relay, type RelayHost } from "./relay.ts";
import { type LostConnection, MOST_CONNECTIONS } from "./saved.ts";
import type { HostSockets } from "./sockets.ts";
import { advance } from "./tcp/sequence.ts";
import { type Clock, WakeUp } from "./timer.ts";
import type { Addresses, ToGuest } from "./to_guest.ts";
import { formatIpv4, type Ipv4Header } from "./wire/ipv4.ts";
import { type ParsedTcp, TcpFlag } from "./wire/tcp.ts";

/** Bytes that may wait for servers, of all connections of a guest; what each one has at least. */
const QUEUES = 32 << 20;
const [LEAST_QUEUE, MOST_QUEUE] = [32 << 10, 1 << 20];
/** The share of what is left of {@linkcode QUEUES} that the next connection may have. */
const QUEUE_SHARE = 1 / 16;
const LOOPBACK = 0x7f00_0001;

/** What a table works with. */
export interface TableOptions {
  /** Way to the guest. */
  readonly toGuest: ToGuest;
  /** The host's sockets. */
  readonly sockets: HostSockets;
  /** What may be reached. */
  readonly gate: Gate;
  /** On the link. */
  readonly addresses: Addresses;
  /** The time. */
  readonly clock: Clock;
  /** Tells the guest that its SYN cannot be delivered. */
  readonly unreachable: (syn: ParsedTcp, address: number) => void;
}

function greetingOf({ token }: Interception, address: number, port: number): Uint8Array {
  return new TextEncoder().encode(`${token} ${formatIpv4(address)} ${port}\n`);
}

/** See the module. */
export class TcpTable implements RelayHost, Disposable {
  readonly toGuest: ToGuest;
  readonly sockets: HostSockets;
  /** Connections that were refused since there are too many. */
  tooMany = 0;
  /** Connections that were made so far. */
  opened = 0;
  readonly #options: TableOptions;
  readonly #relays = new Map<string, Relay>();
  /** Those that wait for room on the link, the one whose turn is next first. */
  readonly #blocked = new Set<Relay>();
  /** Those that owe the guest an acknowledgment. */
  readonly #owing = new Set<Relay>();
  readonly #wakeUp: WakeUp;
  #queues = 0;

  /** @param options what it works with */
  constructor(options: TableOptions) {
    this.toGuest = options.toGuest;
    this.sockets = options.sockets;
    this.#options = options;
    this.#wakeUp = new WakeUp(options.clock, () => this.#tick());
  }

  /** How many connections there are. */
  get size(): number {
    return this.#relays.size;
  }

  /** Bytes that wait for servers. */
  get waiting(): number {
    let bytes = 0;
    for (const relay of this.#relays.values()) bytes += relay.waiting;
    return bytes;
  }

  /** A segment of the guest, in a frame. */
  segment(ip: Ipv4Header, tcp: ParsedTcp, frame: Pieces, payload: number, length: number): void {
    const key = keyOf(tcp.source, ip.destination, tcp.destination);
    const isSyn = (tcp.flags & (TcpFlag.SYN | TcpFlag.ACK | TcpFlag.RST)) === TcpFlag.SYN;
    let relay = this.#relays.get(key);
    // RFC 9293 section 3.6.1: the numbers of a connection that is over may be used again.
    if (isSyn && relay?.isOver === true) {
      relay.abandon();
      relay = undefined;
    }
    if (relay !== undefined) {
      return relay.segment(tcp, frame, payload, length, this.#options.clock.now());
    }
    if (isSyn) this.#open(key, ip, tcp);
    else this.#refuse(ip.destination, tcp, length);
  }

  /** Answers a segment of no connection by a reset (RFC 9293 section 3.10.7.1). */
  #refuse(address: number, tcp: ParsedTcp, length: number): void {
    const { source, destination, flags, sequence, acknowledgment } = tcp;
    if ((flags & TcpFlag.RST) !== 0) return;
    const header = { source: destination, destination: source, window: 0 };
    if ((flags & TcpFlag.ACK) !== 0) {
      const reset = { ...header, sequence: acknowledgment, acknowledgment: 0, flags: TcpFlag.RST };
      return this.toGuest.control(reset, address);
    }
    const size = length + Number((flags & TcpFlag.SYN) !== 0) + Number((flags & TcpFlag.FIN) !== 0);
    const reset = { sequence: 0, acknowledgment: advance(sequence, size) };
    this.toGuest.control({ ...header, ...reset, flags: TcpFlag.RST | TcpFlag.ACK }, address);
  }

  #open(key: string, ip: Ipv4Header, syn: ParsedTcp): void {
    const { gate, clock, addresses } = this.#options;
    const { destination: address } = ip;
    if (!gate.isOpen) return this.#options.unreachable(syn, address);
    const now = clock.now();
    const isHost = address === addresses.gateway;
    const verdict: Verdict = isHost
      ? gate.host(syn.destination)
      : gate.reach(address, syn.destination, now);
    if (!verdict.allowed) return this.#refuse(address, syn, 0);
    if (this.#relays.size >= MOST_CONNECTIONS) {
      this.tooMany++;
      return this.#refuse(address, syn, 0);
    }
    const share = Math.floor((QUEUES - this.#queues) * QUEUE_SHARE);
    const queue = Math.max(LEAST_QUEUE, Math.min(MOST_QUEUE, share));
    const { byName, via } = verdict;
    const meant = { address: isHost ? LOOPBACK : address, port: syn.destination };
    const dial = via === undefined
      ? meant
      : { address: LOOPBACK, port: via.port, greeting: greetingOf(via, meant.address, meant.port) };
    const relay = new Relay({ syn, address, dial, queue, byName, now }, this);
    this.#queues += queue;
    this.#relays.set(key, relay);
    this.opened++;
    relay.dial();
    this.changed(relay);
  }

  /** Acknowledges what came since the last call: one segment says it for many. */
  flush(): void {
    for (const relay of this.#owing) relay.acknowledge();
    this.#owing.clear();
  }

  /** The link has room again. */
  ready(): void {
    const now = this.#options.clock.now();
    // Each of those that wait now once: one that is still blocked is at the end again.
    for (const relay of [...this.#blocked]) {
      this.#blocked.delete(relay);
      relay.connection.resume(now);
      this.changed(relay);
      if (this.#blocked.has(relay)) return;
    }
  }

  #tick(): void {
    const now = this.#options.clock.now();
    let due = Infinity;
    for (const relay of [...this.#relays.values()]) {
      const { timer } = relay;
      if (timer !== undefined && timer <= now) relay.tick(now);
      due = Math.min(due, relay.timer ?? Infinity);
      if (relay.connection.isBlocked) this.#blocked.add(relay);
    }
    if (due !== Infinity) this.#wakeUp.at(due);
  }

  /** The connections, as a snapshot keeps them. */
  save(): LostConnection[] {
    return [...this.#relays.values()].filter((relay) => !relay.isOver).map((relay) => ({
      guestPort: relay.options.syn.source,
      address: relay.options.address,
      port: relay.options.syn.destination,
      ...relay.connection.numbers,
    }));
  }

  /** Ends a connection of a snapshot's guest by an exact reset (RFC 5961 section 3.2). */
  reset({ guestPort, address, port, sequence, acknowledgment }: LostConnection): void {
    const ports = { source: port, destination: guestPort };
    const flags = TcpFlag.RST | TcpFlag.ACK;
    this.toGuest.control({ ...ports, sequence, acknowledgment, flags, window: 0 }, address);
  }

  /** Ends all connections; the guest is not told. */
  clear(): void {
    for (const relay of [...this.#relays.values()]) relay.abandon();
  }

  // -- what relays need --------------------------------------------------------------------------

  initialSequence(): number {
    // RFC 6528: not to be guessed; there is no older connection that it could be taken for
    return crypto.getRandomValues(new Uint32Array(1))[0]!;
  }

  mayName(address: number, port: number, name: string | undefined): boolean {
    return this.#options.gate.serverName(address, port, name, this.now());
  }

  unreachable({ options }: Relay): void {
    this.#options.unreachable(options.syn, options.address);
  }

  owes(relay: Relay): void {
    this.#owing.add(relay);
  }

  changed(relay: Relay): void {
    if (relay.connection.isBlocked) this.#blocked.add(relay);
    this.#wakeUp.at(relay.timer);
  }

  ended(relay: Relay): void {
    const { syn, address, queue } = relay.options;
    const key = keyOf(syn.source, address, syn.destination);
    if (this.#relays.get(key) !== relay) return;
    this.#relays.delete(key);
    this.#blocked.delete(relay);
    this.#owing.delete(relay);
    this.#queues -= queue;
  }

  now(): number {
    return this.#options.clock.now();
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

function keyOf(guestPort: number, address: number, port: number): string {
  return `${guestPort * 65_536 + port} ${address}`;
}
