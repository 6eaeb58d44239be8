/**
 * For tests: a guest that sends frames, a host whose sockets are played by the test, and a clock that
 * stands still.
 *
 * @module
 */
import assert from "node:assert/strict";
import { addressOf } from "../../ffi/mapping.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../../ffi/uapi/mman.ts";
import type { NetworkEvent } from "./gate.ts";
import { type Link, MOST_FRAME } from "./link.ts";
import type { Policy, Rule } from "./policy.ts";
import type { HostDatagrams, HostSocket, HostSockets, SocketHandler } from "./sockets.ts";
import { NetworkStack } from "./stack.ts";
import type { Clock } from "./timer.ts";
import { emitEthernet, EtherType } from "./wire/ethernet.ts";
import { emitIpv4, parseAddress, parseIpv4, Protocol } from "./wire/ipv4.ts";
import { emitTcp, parseTcp, TcpFlag, type TcpHeader } from "./wire/tcp.ts";
import { emitUdp, parseUdp } from "./wire/udp.ts";

export const ip = (text: string): number => parseAddress(text)!;
export const GUEST = ip("10.0.2.15");
export const GATEWAY = ip("10.0.2.2");
export const SERVER = ip("203.0.113.7");
const MACS = {
  guestMac: Uint8Array.of(2, 0, 0, 0, 0, 15),
  gatewayMac: Uint8Array.of(2, 0, 0, 0, 0, 2),
};
export const OPEN: Policy = { rules: [], otherwise: "allow" };

/** A policy that allows what is named, and nothing else. */
export function listed(...rules: (Partial<Rule> & Pick<Rule, "target">)[]): Policy {
  return {
    rules: rules.map((rule) => ({ action: "allow", text: "a rule", ...rule })),
    otherwise: "deny",
  };
}

/** A clock that the test moves on. */
export class FakeClock implements Clock {
  time = 1000;
  #tasks: { due: number; task: () => void }[] = [];

  now(): number {
    return this.time;
  }

  after(milliseconds: number, task: () => void): void {
    this.#tasks.push({ due: this.time + milliseconds, task });
  }

  /** Lets time pass. */
  pass(milliseconds: number): void {
    const end = this.time + milliseconds;
    for (;;) {
      const next = this.#tasks.filter(({ due }) => due <= end).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.#tasks.splice(this.#tasks.indexOf(next), 1);
      this.time = Math.max(this.time, next.due);
      next.task();
    }
    this.time = end;
  }
}

/** A server that a test plays. */
export class FakeSocket implements HostSocket {
  /** What the guest has sent. */
  readonly got: number[] = [];
  /** What the server has sent and is not forgotten. */
  bytes: Uint8Array = new Uint8Array(0);
  /** Bytes that it takes yet. */
  room = Infinity;
  ended = false;
  state: "open" | "closed" | "reset" = "open";
  failure = 0;

  constructor(readonly address: number, readonly port: number, readonly handler: SocketHandler) {}

  accept(): void {
    this.handler(EPOLLOUT);
  }

  refuse(error: number): void {
    this.failure = error;
    this.handler(EPOLLERR | EPOLLOUT);
  }

  /** The server sends. */
  say(bytes: Uint8Array, ended = false): void {
    this.bytes = Uint8Array.of(...this.bytes, ...bytes);
    this.handler(EPOLLIN | (ended ? EPOLLRDHUP : 0));
  }

  /** The server takes more. */
  open(room: number): void {
    this.room = room;
    this.handler(EPOLLOUT);
  }

  error(): number {
    return this.failure;
  }

  available(): number {
    return this.bytes.length;
  }

  peek(offset: number, into: Pieces): number {
    assert.equal(this.state, "open");
    return into.write(this.bytes.subarray(offset, offset + into.length));
  }

  discard(bytes: number): void {
    assert(bytes <= this.bytes.length, "it forgets what is not there");
    this.bytes = this.bytes.subarray(bytes);
  }

  send(bytes: Pieces): number {
    assert.equal(this.state, "open");
    assert(!this.ended, "it sends behind its end");
    const taken = bytes.bytes().subarray(0, this.room);
    this.room -= taken.length;
    for (const byte of taken) this.got.push(byte);
    return taken.length;
  }

  shutdown(): void {
    this.ended = true;
  }

  reset(): void {
    if (this.state === "open") this.state = "reset";
  }

  [Symbol.dispose](): void {
    if (this.state === "open") this.state = "closed";
  }
}

/** A peer of datagrams that a test plays. */
export class FakeDatagrams implements HostDatagrams {
  readonly got: Uint8Array[] = [];
  readonly waiting: Uint8Array[] = [];
  closed = false;

  constructor(readonly address: number, readonly port: number, readonly handler: SocketHandler) {}

  say(bytes: Uint8Array): void {
    this.waiting.push(bytes);
    this.handler(EPOLLIN);
  }

  send(bytes: Pieces): void {
    this.got.push(bytes.bytes());
  }

  receive(): Uint8Array | undefined {
    return this.waiting.shift();
  }

  [Symbol.dispose](): void {
    this.closed = true;
  }
}

/** Sockets that are kept for the test. */
export class FakeSockets implements HostSockets {
  readonly dialed: FakeSocket[] = [];
  readonly peers: FakeDatagrams[] = [];
  failure = 0;

  dial(address: number, port: number, handler: SocketHandler): HostSocket | number {
    if (this.failure !== 0) return -this.failure;
    const socket = new FakeSocket(address, port, handler);
    this.dialed.push(socket);
    return socket;
  }

  datagrams(address: number, port: number, handler: SocketHandler): HostDatagrams {
    const socket = new FakeDatagrams(address, port, handler);
    this.peers.push(socket);
    return socket;
  }

  /** What is open. */
  get open(): number {
    return this.dialed.filter(({ state }) => state === "open").length +
      this.peers.filter(({ closed }) => !closed).length;
  }
}

/** A segment that the guest got. */
export interface GotSegment extends TcpHeader {
  readonly from: number;
  readonly payload: Uint8Array;
}

/** A stack with all that is around it. */
export class Net implements Link, Disposable {
  readonly mtu = 1500;
  largest = MOST_FRAME;
  /** Frames that the guest may get yet. */
  room = Infinity;
  readonly frames: Uint8Array[] = [];
  readonly events: NetworkEvent[] = [];
  readonly sockets = new FakeSockets();
  readonly clock = new FakeClock();
  readonly stack: NetworkStack;
  readonly #buffer = new Uint8Array(MOST_FRAME);
  readonly #address = addressOf(this.#buffer);
  readonly #pieces = new Pieces(1);

  constructor(policy: Policy | undefined) {
    this.stack = new NetworkStack(this, {
      addresses: { ...MACS, guest: GUEST, gateway: GATEWAY },
      sockets: this.sockets,
      clock: this.clock,
      own: (address) => address >>> 8 === GATEWAY >>> 8,
      onEvent: (event) => this.events.push(event),
    });
    this.stack.configure({ policy, upstreams: [{ address: ip("198.51.100.53"), port: 53 }] });
  }

  reserve(wanted: number): Pieces | undefined {
    if (this.room <= 0) return undefined;
    this.#pieces.clear();
    this.#pieces.add(this.#address, wanted);
    return this.#pieces;
  }

  commit(length: number): void {
    if (length === 0) return;
    this.room--;
    this.frames.push(this.#buffer.slice(0, length));
  }

  /** The guest sends a frame. */
  send(frame: Uint8Array): void {
    const bytes = new Uint8Array(Math.max(128, frame.length)); // small ones move about
    bytes.set(frame);
    const pieces = new Pieces();
    const half = frame.length >> 1;
    pieces.add(addressOf(bytes), half);
    pieces.add(addressOf(bytes) + half, frame.length - half);
    this.stack.receive(pieces);
    this.stack.flush();
  }

  ethernet(type: number, body: Uint8Array): void {
    const frame = new Uint8Array(14 + body.length);
    emitEthernet(frame, { destination: MACS.gatewayMac, source: MACS.guestMac, type });
    frame.set(body, 14);
    this.send(frame);
  }

  packet(protocol: number, destination: number, payload: Uint8Array, source = GUEST): void {
    const packet = new Uint8Array(20 + payload.length);
    emitIpv4(packet, { protocol, source, destination, payload: payload.length });
    packet.set(payload, 20);
    this.ethernet(EtherType.IPV4, packet);
  }

  udp(destination: number, port: number, payload: Uint8Array, from = 40_000): void {
    const addresses = { source: GUEST, destination };
    const datagram = emitUdp({ source: from, destination: port }, payload, addresses);
    this.packet(Protocol.UDP, destination, datagram);
  }

  tcp(
    destination: number,
    header: Partial<TcpHeader> & { readonly flags: number },
    payload: Uint8Array = new Uint8Array(0),
  ): void {
    const full = {
      source: 40_000,
      destination: 80,
      sequence: 0,
      acknowledgment: 0,
      window: 65_535,
      ...header,
    };
    const bytes = emitTcp(full, payload.length, { source: GUEST, destination });
    this.packet(Protocol.TCP, destination, Uint8Array.of(...bytes, ...payload));
  }

  syn(destination: number, port: number, from = 40_000): void {
    const header = { source: from, destination: port, sequence: 999, mss: 1460, windowScale: 7 };
    this.tcp(destination, { ...header, flags: TcpFlag.SYN });
  }

  /** What the guest got since the last call, as packets of a protocol. */
  take(protocol: number): { readonly from: number; readonly body: Uint8Array }[] {
    return this.frames.splice(0).flatMap((frame) => {
      const packet = frame.subarray(14);
      const header = parseIpv4(packet);
      if (header?.protocol !== protocol) return [];
      const body = packet.subarray(header.headerLength, header.totalLength);
      assert.equal(header.destination, GUEST);
      return [{ from: header.source, body }];
    });
  }

  segments(): GotSegment[] {
    return this.take(Protocol.TCP).map(({ from, body }) => {
      const header = parseTcp(body)!;
      return { from, ...header, payload: body.slice(header.headerLength) };
    });
  }

  datagrams(): { readonly from: number; readonly source: number; readonly payload: Uint8Array }[] {
    return this.take(Protocol.UDP).map(({ from, body }) => {
      const { source, length } = parseUdp(body)!;
      return { from, source, payload: body.slice(8, length) };
    });
  }

  [Symbol.dispose](): void {
    this.stack[Symbol.dispose]();
    assert.equal(this.sockets.open, 0, "a socket is left");
  }
}

/** An open connection of the guest to port 80 of the server, or another one. */
export class GuestConnection {
  sequence = 1000;
  acknowledgment: number;
  readonly socket: FakeSocket;

  constructor(
    readonly net: Net,
    readonly port = 80,
    readonly address = SERVER,
    readonly from = 40_000,
  ) {
    net.syn(address, port, from);
    this.socket = net.sockets.dialed.at(-1)!;
    this.socket.accept();
    const [answer] = net.segments();
    assert.equal(answer?.flags, TcpFlag.SYN | TcpFlag.ACK);
    this.acknowledgment = (answer.sequence + 1) >>> 0;
    this.send();
  }

  send(payload: Uint8Array = new Uint8Array(0), flags: number = TcpFlag.ACK, window = 512): void {
    const { from: source, port: destination, sequence, acknowledgment } = this;
    const header = { source, destination, sequence, acknowledgment, flags, window };
    this.net.tcp(this.address, header, payload);
    this.sequence = (this.sequence + payload.length + ((flags & TcpFlag.FIN) === 0 ? 0 : 1)) >>> 0;
  }

  /** Takes what came in its order, acknowledges it, and returns the bytes and the flags. */
  read(): { readonly bytes: number[]; readonly flags: number } {
    const bytes: number[] = [];
    let flags = 0;
    for (const segment of this.net.segments()) {
      flags |= segment.flags;
      if (segment.sequence !== this.acknowledgment) continue;
      bytes.push(...segment.payload);
      const fin = (segment.flags & TcpFlag.FIN) === 0 ? 0 : 1;
      this.acknowledgment = (this.acknowledgment + segment.payload.length + fin) >>> 0;
      if (segment.payload.length + fin > 0) this.send();
    }
    return { bytes, flags };
  }
}
