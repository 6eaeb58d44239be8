/**
 * A guest's TCP and a server for tests of {@linkcode TcpConnection}, with a link between them that
 * loses, repeats and reorders segments; all in a time of its own.
 *
 * The guest is no better than RFC 9293 asks for: it sends again from the first byte that was not
 * acknowledged, and keeps nothing that comes too early.
 *
 * @module
 */
import { type ParsedTcp, TcpFlag, type TcpHeader } from "../wire/tcp.ts";
import { TcpConnection } from "./connection.ts";
import { advance, distance } from "./sequence.ts";
import type { CloseReason } from "./types.ts";

/** A segment on its way. */
interface Flying {
  readonly at: number;
  readonly toGuest: boolean;
  readonly header: TcpHeader;
  readonly payload: Uint8Array;
}

/** What happens in a {@linkcode Simulation}. */
export interface Scenario {
  /** What the guest sends. */
  readonly up: Uint8Array;
  /** What the server sends. */
  readonly down: Uint8Array;
  /** Where the numbers of both sides begin: near the end, they wrap around. */
  readonly guestSequence: number;
  readonly ourSequence: number;
  /** Most bytes of a segment of the guest, and its receive buffer. */
  readonly mss: number;
  readonly guestBuffer: number;
  /** The guest's window scale; undefined for none. */
  readonly scale: number | undefined;
  /** Bytes that our queue and our segments have. */
  readonly queue: number;
  readonly unit: number;
  /** Bytes that the server and the guest's program take at a time, and how often, in ms. */
  readonly serverTakes: number;
  readonly guestTakes: number;
  readonly pace: number;
  /** The fate of each segment: a number from 0 to 1. */
  readonly fate: () => number;
  /** Of segments: how many are lost, sent twice, and delayed. */
  readonly lost: number;
  readonly twice: number;
  readonly delayed: number;
}

const NO_BYTES = new Uint8Array();
/** How long a segment takes, and a delayed one, in ms. */
const [FLIGHT, LATE] = [1, 30];
/** When the guest sends again, in ms. */
const GUEST_TIMEOUT = 250;

/** See the module. */
export class Simulation {
  readonly connection: TcpConnection;
  /** What the server and the guest's program got. */
  readonly serverGot: number[] = [];
  readonly guestGot: number[] = [];
  serverSawEnd = false;
  guestSawEnd = false;
  guestSawReset = false;
  closed: CloseReason | undefined;
  now = 0;
  /** Payload bytes that were sent to the guest, those that were repeated included. */
  sentBytes = 0;

  readonly #scenario: Scenario;
  #flying: Flying[] = [];
  /** Of the server: what the socket still holds, and where the queue is. */
  #socket: Uint8Array;
  #queue: number[] = [];
  #shutdown = false;
  #segment: Uint8Array = NO_BYTES;
  /** Of the guest: SND.UNA, SND.NXT, RCV.NXT, our window, and what its program has not read. */
  #una: number;
  #nxt: number;
  #rcv = 0;
  #window = 0;
  #shift = 0;
  #unread: number[] = [];
  #told = 0;
  #established = false;
  #repeatAt = 0;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    this.#socket = scenario.down;
    this.#una = scenario.guestSequence;
    this.#nxt = advance(scenario.guestSequence, 1);
    const syn = this.#guestHeader(TcpFlag.SYN, this.#una);
    this.connection = new TcpConnection(
      {
        guestPort: 40_000,
        serverPort: 80,
        syn: { ...syn, mss: scenario.mss, windowScale: scenario.scale },
        initialSequence: scenario.ourSequence,
        mss: 1460,
        unit: scenario.unit,
        queue: scenario.queue,
        now: 0,
      },
      {
        send: (header, offset, length) => {
          if (offset + length > this.#socket.length) throw new Error("it sends what is not there");
          this.sentBytes += length;
          this.#fly(true, header, this.#socket.subarray(offset, offset + length));
          return length;
        },
        take: (from, to) => {
          for (const byte of this.#segment.subarray(from, to)) this.#queue.push(byte);
          return to - from;
        },
        keep: (from, to) => this.#segment.slice(from, to),
        takeKept: (bytes) => {
          for (const byte of bytes) this.#queue.push(byte);
          return bytes.length;
        },
        forget: (bytes) => {
          if (bytes > this.#socket.length) throw new Error("it forgets what is not there");
          this.#socket = this.#socket.subarray(bytes);
        },
        end: () => this.#shutdown = true,
        closed: (reason) => {
          if (this.closed !== undefined) throw new Error("it is closed twice");
          this.closed = reason;
        },
      },
    );
    this.#repeatAt = GUEST_TIMEOUT;
  }

  /** Lets time pass, until both sides are done or for at most `limit` ms. */
  run(limit: number, dial: () => boolean = () => true): void {
    if (dial()) this.connection.dialed(this.now);
    else this.connection.refused();
    this.#offerServer();
    for (; this.now < limit && !this.#isDone; this.now++) {
      const due = this.#flying.filter(({ at }) => at <= this.now);
      this.#flying = this.#flying.filter(({ at }) => at > this.now);
      for (const { toGuest, header, payload } of due) {
        if (toGuest) this.#guestReceives(header, payload);
        else this.#hostReceives(header, payload);
      }
      if (this.now % this.#scenario.pace === 0) this.#programsWork();
      const { timer } = this.connection;
      if (timer !== undefined && this.now >= timer) this.connection.tick(this.now);
      if (this.now >= this.#repeatAt) this.#guestRepeats();
    }
  }

  get #isDone(): boolean {
    return this.closed !== undefined && this.#queue.length === 0 && this.#unread.length === 0 &&
      this.#flying.length === 0;
  }

  #fly(toGuest: boolean, header: TcpHeader, payload: Uint8Array): void {
    const { fate, lost, twice, delayed } = this.#scenario;
    if (fate() < lost) return;
    for (let n = fate() < twice ? 2 : 1; n > 0; n--) {
      const at = this.now + (fate() < delayed ? LATE : FLIGHT);
      this.#flying.push({ at, toGuest, header, payload: payload.slice() });
    }
  }

  #offerServer(): void {
    // A server sends its end behind its last byte.
    this.connection.readable(this.#socket.length, true, this.now);
  }

  #hostReceives(header: TcpHeader, payload: Uint8Array): void {
    this.#segment = payload;
    this.connection.segment({ ...header, headerLength: 20 } as ParsedTcp, payload.length, this.now);
    this.#segment = NO_BYTES;
  }

  #programsWork(): void {
    const { serverTakes, guestTakes } = this.#scenario;
    const taken = this.#queue.splice(0, serverTakes);
    for (const byte of taken) this.serverGot.push(byte);
    if (taken.length > 0) this.connection.written(taken.length);
    if (this.#shutdown && this.#queue.length === 0) this.serverSawEnd = true;
    const read = this.#unread.splice(0, guestTakes);
    for (const byte of read) this.guestGot.push(byte);
    // As Linux does, an update is sent when a closed window opens.
    if (read.length > 0 && this.#told === 0 && this.#established) this.#guestAcknowledges();
  }

  // -- the guest ---------------------------------------------------------------------------------

  #guestHeader(flags: number, sequence: number): TcpHeader {
    const { scale, guestBuffer } = this.#scenario;
    const room = Math.max(0, guestBuffer - this.#unread.length);
    const shift = (flags & TcpFlag.SYN) === 0 ? scale ?? 0 : 0;
    const window = Math.min(0xffff, room >>> shift);
    this.#told = window;
    const ports = { source: 40_000, destination: 80 };
    return { ...ports, sequence, acknowledgment: this.#rcv, flags, window };
  }

  #guestAcknowledges(): void {
    this.#fly(false, this.#guestHeader(TcpFlag.ACK, this.#nxt), NO_BYTES);
  }

  #guestReceives(header: TcpHeader, payload: Uint8Array): void {
    const { flags } = header;
    if ((flags & TcpFlag.RST) !== 0) {
      this.guestSawReset = true;
      return;
    }
    if ((flags & TcpFlag.SYN) !== 0) {
      if (!this.#established) {
        this.#established = true;
        this.#rcv = advance(header.sequence, 1);
        this.#una = header.acknowledgment;
        this.#shift = header.windowScale ?? 0;
        this.#window = header.window;
      }
      this.#guestAcknowledges();
      return this.#guestSends();
    }
    if (!this.#established) return;
    const acknowledged = distance(header.acknowledgment, this.#una);
    if (acknowledged > 0) {
      this.#una = header.acknowledgment;
      if (distance(this.#nxt, this.#una) < 0) this.#nxt = this.#una;
      this.#repeatAt = this.now + GUEST_TIMEOUT;
    }
    if (acknowledged >= 0) this.#window = header.window * 2 ** this.#shift;
    this.#guestTakes(header, payload);
    this.#guestSends();
  }

  #guestTakes(header: TcpHeader, payload: Uint8Array): void {
    const fin = (header.flags & TcpFlag.FIN) !== 0;
    if (payload.length === 0 && !fin) return;
    const from = distance(this.#rcv, header.sequence);
    if (from >= 0 && !this.guestSawEnd) {
      const room = Math.max(0, this.#scenario.guestBuffer - this.#unread.length);
      const fresh = payload.subarray(from, Math.min(payload.length, from + room));
      for (const byte of fresh) this.#unread.push(byte);
      this.#rcv = advance(this.#rcv, fresh.length);
      if (fin && distance(this.#rcv, header.sequence) === payload.length) {
        this.#rcv = advance(this.#rcv, 1);
        this.guestSawEnd = true;
      }
    }
    this.#guestAcknowledges();
  }

  /** Bytes of the guest and its end, from SND.NXT on, as far as the window goes. */
  #guestSends(): void {
    const { up, mss, guestSequence } = this.#scenario;
    const start = advance(guestSequence, 1);
    for (;;) {
      const offset = distance(this.#nxt, start);
      const room = this.#window - distance(this.#nxt, this.#una);
      const length = Math.min(up.length - offset, mss, room);
      if (length > 0) {
        const header = this.#guestHeader(TcpFlag.ACK, this.#nxt);
        this.#fly(false, header, up.subarray(offset, offset + length));
        this.#nxt = advance(this.#nxt, length);
        continue;
      }
      if (offset === up.length) {
        this.#fly(false, this.#guestHeader(TcpFlag.FIN | TcpFlag.ACK, this.#nxt), NO_BYTES);
        this.#nxt = advance(this.#nxt, 1);
      }
      return;
    }
  }

  #guestRepeats(): void {
    this.#repeatAt = this.now + GUEST_TIMEOUT;
    if (!this.#established) {
      const { guestSequence, mss, scale } = this.#scenario;
      const syn = this.#guestHeader(TcpFlag.SYN, guestSequence);
      return this.#fly(false, { ...syn, acknowledgment: 0, mss, windowScale: scale }, NO_BYTES);
    }
    const { up, guestSequence } = this.#scenario;
    if (distance(this.#una, guestSequence) === up.length + 2) return; // all is acknowledged
    this.#nxt = this.#una;
    if (this.#window === 0) { // a probe
      const offset = distance(this.#una, advance(guestSequence, 1));
      const header = this.#guestHeader(TcpFlag.ACK, this.#una);
      return this.#fly(false, header, up.subarray(offset, offset + 1));
    }
    this.#guestSends();
  }
}
