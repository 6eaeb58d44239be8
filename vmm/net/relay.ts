/**
 * A TCP connection of the guest and the host's socket that it is joined to: carries out what the
 * state machine orders, and tells it what the socket says.
 *
 * @module
 */
import { ECONNREFUSED } from "../../ffi/errno.ts";
import { addressOf } from "../../ffi/mapping.ts";
import { Pieces } from "../../ffi/pieces.ts";
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../../ffi/uapi/mman.ts";
import { ByteQueue } from "../byte_queue.ts";
import { FirstBytes } from "./first_bytes.ts";
import type { HostSocket, HostSockets } from "./sockets.ts";
import { TcpConnection } from "./tcp/connection.ts";
import type { CloseReason, Output } from "./tcp/types.ts";
import type { ToGuest } from "./to_guest.ts";
import { type ParsedTcp, TcpFlag, type TcpHeader } from "./wire/tcp.ts";

/** What a relay needs, and tells. */
export interface RelayOptions {
  /** The guest's SYN. */
  readonly syn: ParsedTcp;
  /** The address that the guest wants. */
  readonly address: number;
  /** Who is dialled. */
  readonly dial: {
    /** The same, or another one for this host. */
    readonly address: number;
    readonly port: number;
    /** What is said before the guest's first byte; nothing when absent. */
    readonly greeting?: Uint8Array | undefined;
  };
  /** Bytes that may wait for the server. */
  readonly queue: number;
  /** Whether the guest's first bytes have to name the server. */
  readonly byName: boolean;
  /** Milliseconds. */
  readonly now: number;
}

/** What is around a relay. */
export interface RelayHost {
  /** The way to the guest. */
  readonly toGuest: ToGuest;
  /** The host's sockets. */
  readonly sockets: HostSockets;
  /** An initial sequence number. */
  initialSequence(): number;
  /** Whether the guest may reach the server of this name at that address. */
  mayName(address: number, port: number, name: string | undefined): boolean;
  /** The server cannot be reached. */
  unreachable(relay: Relay): void;
  /** Something happened to the connection: its timer, or what it waits for, may be another one. */
  changed(relay: Relay): void;
  /** {@linkcode Relay.acknowledge} is to be called when no more segments follow for now. */
  owes(relay: Relay): void;
  /** It is over, with the socket. */
  ended(relay: Relay): void;
  /** Milliseconds. */
  now(): number;
}

/** Milliseconds for which a server may take what a guest has sent that is done with it. */
const LINGER = 60_000;

/** Scratch of one thread. */
const part = new Pieces();
const NO_FRAME = new Pieces(1);

/** See the module. */
export class Relay implements Output, Disposable {
  /** The guest's side. */
  readonly connection: TcpConnection;
  /** What it was made from. */
  readonly options: RelayOptions;
  readonly #host: RelayHost;
  readonly #queue = new ByteQueue();
  #socket: HostSocket | undefined;
  #first: FirstBytes | undefined;
  #dialing = true;
  #guestEnded = false;
  /** The guest's side is over, and what it sent is on its way still. */
  #lingering = false;
  #lingerUntil = 0;
  #disposed = false;
  /** The frame that is being handled, and where its payload begins. */
  #frame = NO_FRAME;
  #payload = 0;
  /** An acknowledgment that later ones may make needless. */
  #owed: TcpHeader | undefined;
  /** The number that was acknowledged last. */
  #acknowledged = -1;

  /**
   * @param options the connection that the guest wants
   * @param host what is around it
   */
  constructor(options: RelayOptions, host: RelayHost) {
    const { syn, now, queue } = options;
    const { mss, unit } = host.toGuest;
    this.options = options;
    this.#host = host;
    if (options.byName) this.#first = new FirstBytes(syn.destination);
    this.connection = new TcpConnection({
      guestPort: syn.source,
      serverPort: syn.destination,
      syn,
      initialSequence: host.initialSequence(),
      mss,
      unit,
      queue,
      now,
    }, this);
  }

  /** Bytes that wait for the server. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Whether the guest is done with it: only what it sent is on its way still, or nothing is. */
  get isOver(): boolean {
    return this.#lingering || this.connection.state === "time-wait";
  }

  /** When {@linkcode Relay.tick} is due; undefined when nothing is waited for. */
  get timer(): number | undefined {
    return this.#lingering ? this.#lingerUntil : this.connection.timer;
  }

  /** Time has passed. */
  tick(now: number): void {
    if (!this.#lingering) this.connection.tick(now);
    else if (now >= this.#lingerUntil) this.abandon();
  }

  /** Ends it at once, without a word to the guest. */
  abandon(): void {
    this.#socket?.reset();
    this[Symbol.dispose]();
  }

  /** Dials the server. */
  dial(): void {
    const { address, port } = this.options.dial;
    const handler = (events: number) => this.#onEvents(events);
    const socket = this.#host.sockets.dial(address, port, handler);
    if (typeof socket === "number") return this.#failed(-socket);
    this.#socket = socket;
  }

  /** A segment of the guest. */
  segment(header: ParsedTcp, frame: Pieces, payload: number, length: number, now: number): void {
    this.#frame = frame;
    this.#payload = payload;
    this.connection.segment(header, length, now);
    this.#frame = NO_FRAME;
    // It has ended before it said whom it wants.
    if (this.#guestEnded && this.#first !== undefined && this.#queue.length > 0) {
      this.connection.abort();
    }
    this.#host.changed(this);
  }

  #failed(error: number): void {
    if (error === ECONNREFUSED) return this.connection.refused();
    this.#host.unreachable(this);
    this.connection.refused(false);
  }

  #onEvents(events: number): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    if (this.#lingering) return this.#linger(events);
    const now = this.#host.now();
    if ((events & (EPOLLERR | EPOLLHUP)) !== 0) {
      const error = socket.error();
      if (this.#dialing && error !== 0) return this.#failed(error);
      if (error !== 0) return this.connection.abort();
    }
    if (this.#dialing) {
      if ((events & EPOLLOUT) === 0) return;
      this.#dialing = false;
      if (!this.#greet(socket)) return this.connection.refused();
      this.connection.dialed(now);
    }
    if ((events & EPOLLOUT) !== 0) this.#flush();
    if (this.#disposed) return;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) !== 0) {
      const ended = (events & (EPOLLRDHUP | EPOLLHUP)) !== 0;
      this.connection.readable(socket.available(), ended, now);
    }
    this.#host.changed(this);
  }

  /** An empty socket takes a few bytes at once. */
  #greet(socket: HostSocket): boolean {
    const { greeting } = this.options.dial;
    if (greeting === undefined) return true;
    const bytes = new Uint8Array(Math.max(128, greeting.length)); // a small one would move about
    bytes.set(greeting);
    part.clear();
    part.add(addressOf(bytes), greeting.length);
    return socket.send(part) === greeting.length;
  }

  #linger(events: number): void {
    if ((events & EPOLLERR) !== 0) return this[Symbol.dispose]();
    this.#flush();
    if (this.#queue.length === 0) this[Symbol.dispose]();
  }

  /** Sends what waits. */
  #flush(): void {
    const socket = this.#socket;
    if (socket === undefined || this.#first !== undefined) return;
    let sent = 0;
    while (this.#queue.length > 0) {
      const { waiting } = this.#queue;
      part.clear();
      part.add(addressOf(waiting), waiting.length);
      const count = socket.send(part);
      if (count < 0) return this.#broken();
      if (count === 0) break;
      this.#queue.consume(count);
      sent += count;
    }
    if (sent > 0 && !this.#lingering) this.connection.written(sent);
    if (this.#guestEnded && this.#queue.length === 0) socket.shutdown();
  }

  #broken(): void {
    if (this.#lingering) this[Symbol.dispose]();
    else this.connection.abort();
  }

  // -- orders of the connection ------------------------------------------------------------------

  send(header: TcpHeader, offset: number, length: number): number {
    const { toGuest } = this.#host;
    const { address } = this.options;
    const isNews = header.acknowledgment !== this.#acknowledged;
    this.#acknowledged = header.acknowledgment;
    // Only while segments are taken, of which there may be more. One that says nothing new is sent for
    // its own sake: three of them have the guest repeat what is missing.
    if (length === 0 && header.flags === TcpFlag.ACK && isNews && this.#frame !== NO_FRAME) {
      this.#owed = header;
      this.#host.owes(this);
      return 0;
    }
    if (!isNews) this.acknowledge();
    this.#owed = undefined;
    if (length === 0) {
      toGuest.control(header, address);
      return 0;
    }
    const segment = Math.min(this.connection.guestMss, toGuest.mss);
    let failed = false;
    const sent = toGuest.data(header, address, length, segment, (room) => {
      const count = this.#socket!.peek(offset, room);
      failed = count < 0;
      return count;
    });
    if (failed) this.connection.abort();
    return sent;
  }

  /** Sends the acknowledgment that is owed. */
  acknowledge(): void {
    const owed = this.#owed;
    if (owed === undefined) return;
    this.#owed = undefined;
    this.#host.toGuest.control(owed, this.options.address);
  }

  take(from: number, to: number): number {
    return this.#take(this.#frame.slice(this.#payload + from, to - from, part));
  }

  keep(from: number, to: number): Uint8Array {
    // Where it stays: V8 moves what is smaller.
    const bytes = new Uint8Array(Math.max(128, to - from)).subarray(0, to - from);
    this.#frame.read(bytes, this.#payload + from);
    return bytes;
  }

  takeKept(bytes: Uint8Array): number {
    part.clear();
    part.add(addressOf(bytes as Uint8Array<ArrayBuffer>), bytes.length);
    return this.#take(part);
  }

  #take(frame: Pieces): number {
    if (this.#disposed) return 0;
    if (this.#first !== undefined) return this.#inspect(frame, this.#first);
    let sent = 0;
    if (this.#queue.length === 0) {
      sent = this.#socket!.send(frame);
      if (sent < 0) {
        this.connection.abort();
        return 0;
      }
    }
    const left = frame.length - sent;
    if (left > 0) frame.read(this.#queue.extend(left), sent);
    // A socket that took less than it got says when it takes more.
    return left;
  }

  /** Keeps the guest's first bytes until they have said whom it wants. */
  #inspect(frame: Pieces, first: FirstBytes): number {
    const { address, syn } = this.options;
    const { length } = frame;
    const bytes = frame.bytes();
    this.#queue.extend(length).set(bytes);
    const found = first.add(bytes);
    if (found.kind === "more") return length;
    if (found.kind === "name" && !this.#host.mayName(address, syn.destination, found.name)) {
      this.#queue.clear();
      this.connection.abort();
      return 0;
    }
    this.#first = undefined;
    // All of it waits as far as the window goes; the next event of the socket, or this, sends it.
    const before = this.#queue.length;
    this.#sendQueue();
    return length - (before - this.#queue.length);
  }

  #sendQueue(): void {
    const { waiting } = this.#queue;
    const list = new Pieces(1);
    list.add(addressOf(waiting), waiting.length);
    const sent = this.#socket!.send(list);
    if (sent > 0) this.#queue.consume(sent);
  }

  forget(bytes: number): void {
    this.#socket!.discard(bytes);
  }

  end(): void {
    this.#guestEnded = true;
    if (this.#queue.length === 0) this.#socket!.shutdown();
  }

  closed(reason: CloseReason): void {
    if (reason === "finished" && this.#queue.length > 0 && this.#first === undefined) {
      this.#lingering = true;
      this.#lingerUntil = this.#host.now() + LINGER;
      this.#host.changed(this);
      return;
    }
    if (reason === "timed-out" && this.#dialing) this.#host.unreachable(this);
    if (reason !== "finished") this.#socket?.reset();
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#queue.clear();
    this.#socket?.[Symbol.dispose]();
    this.#socket = undefined;
    this.#host.ended(this);
  }
}
