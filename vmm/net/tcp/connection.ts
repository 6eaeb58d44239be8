/**
 * One TCP connection that the guest opened, as the state machine of RFC 9293 without I/O and without
 * a clock: segments, what the host's socket says, and times come in; segments and orders to the
 * socket go out through {@linkcode Output}.
 *
 * The connection ends here, and another one goes from the host to the server. It is dialled before
 * the guest's SYN is answered, so that a guest learns what really happened. What the guest sends waits
 * in a queue of bounded length, whose free room is the window: nothing that was taken is ever lost.
 * What the server sends stays in the host's socket until the guest has acknowledged it: the kernel's
 * buffer is the retransmission buffer.
 *
 * @module
 */
import { type ParsedTcp, TcpFlag, type TcpHeader } from "../wire/tcp.ts";
import { Inbound } from "./inbound.ts";
import { ReceiveWindow } from "./receive_window.ts";
import { SendWindow } from "./send_window.ts";
import { advance, distance } from "./sequence.ts";
import type { CloseReason, ConnectionOptions, Output, TcpState } from "./types.ts";

/** RFC 9293 section 3.7.1: without the option. */
const DEFAULT_MSS = 536;
/** Linux's least (TCP_MIN_SND_MSS): a guest that takes less would have us send it headers. */
const LEAST_MSS = 48;
/** By how many bits our windows are shifted: a megabyte has to be told (RFC 7323 section 2). */
const WINDOW_SHIFT = 7;
/** How often something is sent again before the guest is given up. */
const MOST_REPEATS = 8;
/** Milliseconds after which a connection is over whose server has ended and whose guest is silent. */
const HALF_CLOSED = 600_000;
/** Milliseconds of silence of the guest after which any connection is over (RFC 5382, REQ-5). */
const IDLE = 2 * 3_600_000 + 240_000;
/** Milliseconds for which a server is dialled. */
const DIAL = 30_000;
/** Milliseconds in TIME-WAIT: no segment wanders about on a path of one hop. */
const TIME_WAIT = 1000;
/** Duplicate acknowledgments after which a segment is taken as lost (RFC 5681 section 3.2). */
const DUPLICATES = 3;

/** States in which data of the guest is taken. */
const RECEIVES: ReadonlySet<TcpState> = new Set(["established", "fin-wait-1", "fin-wait-2"]);
/** States in which data of the server, or its end, is sent. */
const SENDS: ReadonlySet<TcpState> = new Set([
  "established",
  "close-wait",
  "fin-wait-1",
  "closing",
  "last-ack",
]);

/** See the module. */
export class TcpConnection {
  #state: TcpState = "dialing";
  readonly #out: Output;
  readonly #options: ConnectionOptions;
  readonly #send: SendWindow;
  readonly #receive: ReceiveWindow;
  readonly #inbound: Inbound;
  readonly #ownShift: number;
  /** Bytes of the server that are in the socket, and not acknowledged. */
  #available = 0;
  #serverEnded = false;
  /** The number of our FIN, once it was sent. */
  #fin: number | undefined;
  #duplicates = 0;
  #repeats = 0;
  /** The link has no room for what is to be sent. */
  #blocked = false;
  /** When something is sent again, probed or given up; undefined when nothing is waited for. */
  #timer: number | undefined;
  /** When the guest was last heard of. */
  #heard: number;

  /**
   * @param options of the connection that the guest asks for
   * @param output what it does
   */
  constructor(options: ConnectionOptions, output: Output) {
    const { syn, initialSequence, queue } = options;
    this.#options = options;
    this.#out = output;
    this.#send = new SendWindow(initialSequence, syn);
    this.#receive = new ReceiveWindow(advance(syn.sequence, 1), queue);
    this.#inbound = new Inbound(this.#receive, output);
    // RFC 7323 section 2.2: only when both sides have said so
    this.#ownShift = syn.windowScale === undefined ? 0 : WINDOW_SHIFT;
    this.#heard = options.now;
    this.#timer = options.now + DIAL;
  }

  /** Most bytes of a segment that the guest takes (RFC 9293 section 3.7.1). */
  get guestMss(): number {
    return Math.max(LEAST_MSS, this.#options.syn.mss ?? DEFAULT_MSS);
  }

  /** Where it is. */
  get state(): TcpState {
    return this.#state;
  }

  /** When {@linkcode tick} is due; undefined when it is over. */
  get timer(): number | undefined {
    if (this.#state === "closed") return undefined;
    return Math.min(this.#timer ?? Infinity, this.#heard + IDLE);
  }

  /** Whether {@linkcode TcpConnection.resume} is waited for. */
  get isBlocked(): boolean {
    return this.#blocked && this.#state !== "closed";
  }

  /** Bytes of the guest that wait for the server. */
  get waiting(): number {
    return this.#receive.waiting;
  }

  /** What a snapshot keeps: enough for an exact reset later. */
  get numbers(): { readonly sequence: number; readonly acknowledgment: number } {
    return { sequence: this.#send.highest, acknowledgment: this.#receive.expected };
  }

  /** The server has accepted the connection. */
  dialed(now: number): void {
    if (this.#state !== "dialing") return;
    this.#state = "syn-received";
    this.#sendSyn(now);
  }

  /** The link has room again. */
  resume(now: number): void {
    if (!this.#blocked || this.#state === "closed") return;
    this.#transmit(now);
  }

  /** The server refused, or (`reset` false) an ICMP message tells that it could not be reached. */
  refused(reset = true): void {
    if (this.#state !== "dialing") return;
    if (reset) this.#sendReset(); // RFC 9293 section 3.5.2
    this.#close("refused");
  }

  /** The socket has failed, or the connection may not go on. */
  abort(): void {
    if (this.#state === "closed") return;
    this.#sendReset();
    this.#close("aborted");
  }

  /**
   * The socket holds so many bytes, all counted that the guest has not acknowledged.
   *
   * @param ended whether the server sends no more
   */
  readable(bytes: number, ended: boolean, now: number): void {
    this.#available = Math.max(this.#available, bytes);
    this.#serverEnded ||= ended;
    this.#transmit(now);
  }

  /** The socket took so many bytes of the queue. */
  written(bytes: number): void {
    const opened = this.#receive.written(bytes);
    if (!RECEIVES.has(this.#state)) return;
    // RFC 9293 section 3.8.6.2.2: the window is opened by steps that are worth a segment.
    const worth = Math.min(this.#options.queue / 2, 2 * this.#options.mss);
    if (opened >= worth) this.#acknowledge();
  }

  /** A segment of the guest, with `length` bytes of payload (RFC 9293 section 3.10.7.4). */
  segment(segment: ParsedTcp, length: number, now: number): void {
    if (this.#state === "closed") return;
    this.#heard = now;
    const { flags } = segment;
    const isReset = (flags & TcpFlag.RST) !== 0;
    if (this.#state === "dialing") {
      // Its SYN comes again while the server is dialled; a reset takes it back.
      if (isReset) this.#close("reset");
      return;
    }
    const size = length + ((flags & TcpFlag.FIN) === 0 ? 0 : 1);
    if (!this.#receive.accepts(segment.sequence, size)) {
      if (isReset) return;
      if (this.#state === "syn-received" && (flags & TcpFlag.SYN) !== 0) this.#sendSyn(now);
      else this.#acknowledge();
      return;
    }
    if (isReset) {
      // RFC 5961 section 3.2: only an exact one ends it
      if (segment.sequence === this.#receive.expected) this.#close("reset");
      else this.#acknowledge();
      return;
    }
    if ((flags & TcpFlag.SYN) !== 0) return this.#acknowledge(); // RFC 5961 section 4.2
    if ((flags & TcpFlag.ACK) === 0 || !this.#acknowledged(segment, length, now)) return;
    this.#takeData(segment, length, now);
    this.#transmit(now);
  }

  /** Time has passed. */
  tick(now: number): void {
    if (this.#state === "closed") return;
    if (now >= this.#heard + IDLE) return this.#giveUp();
    if (this.#timer === undefined || now < this.#timer) return;
    if (this.#state === "dialing") return this.#close("timed-out");
    // The guest cannot have acknowledged what it has no room for.
    if (this.#blocked) return this.#startTimer(now);
    this.#timer = undefined;
    if (this.#state === "time-wait") return this.#close("finished");
    if (this.#state === "fin-wait-2" || ++this.#repeats > MOST_REPEATS) return this.#giveUp();
    this.#send.timeout.expired();
    if (this.#state === "syn-received") {
      this.#send.rewind();
      return this.#sendSyn(now);
    }
    if (this.#send.window === 0 && this.#available > 0) this.#probe();
    else this.#sendAgain(now);
    this.#startTimer(now);
  }

  /** Takes an acknowledgment; false when the segment is not to be looked at any more. */
  #acknowledged(segment: ParsedTcp, length: number, now: number): boolean {
    if (this.#send.isBeyond(segment)) {
      if (this.#state === "syn-received") {
        this.#out.send(this.#header(TcpFlag.RST, segment.acknowledgment), 0, 0);
      } else this.#acknowledge();
      return false;
    }
    const before = this.#send.window;
    const count = this.#send.update(segment, now);
    const { window } = this.#send;
    if (count > 0) this.#progress(count, now);
    else if (count === 0 && length === 0 && before === window) this.#duplicate(now);
    if (before === 0 && window > 0) {
      this.#repeats = 0;
      this.#send.timeout.progressed();
      this.#sendAgain(now);
    }
    return !this.#isClosed();
  }

  #isClosed(): boolean {
    return this.#state === "closed";
  }

  /** New bytes of ours, or our SYN or FIN, were acknowledged. */
  #progress(count: number, now: number): void {
    let bytes = count;
    if (this.#state === "syn-received") {
      bytes--; // SYN
      this.#state = "established";
    }
    const all = this.#send.unacknowledged === this.#send.highest;
    const finAcknowledged = this.#fin !== undefined &&
      distance(this.#send.unacknowledged, this.#fin) > 0;
    if (finAcknowledged) bytes--;
    if (bytes > 0) {
      this.#available -= bytes;
      this.#out.forget(bytes);
    }
    this.#duplicates = 0;
    this.#repeats = 0;
    if (all) this.#timer = undefined;
    else this.#startTimer(now);
    if (!finAcknowledged) return;
    if (this.#state === "fin-wait-1") {
      this.#state = "fin-wait-2";
      this.#timer = now + HALF_CLOSED;
    } else if (this.#state === "closing") this.#timeWait(now);
    else if (this.#state === "last-ack") this.#close("finished");
  }

  /** RFC 5681 section 3.2, without its congestion window: the path has one hop. */
  #duplicate(now: number): void {
    if (this.#send.offset === 0 || this.#send.window === 0) return;
    if (++this.#duplicates === DUPLICATES) this.#sendAgain(now);
  }

  /** Sends what was not acknowledged once more. */
  #sendAgain(now: number): void {
    this.#send.rewind();
    this.#transmit(now);
  }

  /** Takes the part of a segment that is new and has room, and its FIN. */
  #takeData(segment: ParsedTcp, length: number, now: number): void {
    const fin = (segment.flags & TcpFlag.FIN) !== 0;
    if (length === 0 && !fin) return;
    if (RECEIVES.has(this.#state)) {
      const isEnd = this.#inbound.take(segment.sequence, length, fin);
      if (this.#isClosed()) return; // what the bytes say ended it
      if (this.#state === "fin-wait-2") this.#timer = now + HALF_CLOSED;
      if (isEnd) this.#guestEnds(now);
    }
    this.#acknowledge();
  }

  #guestEnds(now: number): void {
    this.#receive.end();
    this.#out.end();
    if (this.#state === "established") this.#state = "close-wait";
    else if (this.#state === "fin-wait-1") this.#state = "closing";
    else if (this.#state === "fin-wait-2") this.#timeWait(now);
  }

  /** Sends what the guest's window has room for, and our FIN after all of it. */
  #transmit(now: number): void {
    if (!SENDS.has(this.#state)) return;
    const start = this.#send.next;
    this.#blocked = false;
    for (;;) {
      const { offset, next, window } = this.#send;
      const length = Math.min(this.#available - offset, window - offset, this.#options.unit);
      if (length <= 0) break;
      const isLast = offset + length === this.#available;
      const flags = TcpFlag.ACK | (isLast ? TcpFlag.PSH : 0);
      const sent = this.#out.send(this.#header(flags, next), offset, length);
      if (this.#isClosed()) return; // the socket has failed
      if (sent <= 0) {
        this.#blocked = sent < 0;
        break;
      }
      this.#send.sent(sent, now);
    }
    const isLast = this.#send.offset === this.#available;
    if (this.#serverEnded && isLast) this.#sendFin(now);
    const waits = this.#send.offset > 0 || this.#available > 0;
    const isNew = this.#timer === undefined || start !== this.#send.next;
    if (waits && isNew) this.#startTimer(now);
  }

  #sendFin(now: number): void {
    this.#out.send(this.#header(TcpFlag.FIN | TcpFlag.ACK, this.#send.next), 0, 0);
    this.#fin ??= this.#send.next;
    this.#send.sent(1, now);
    if (this.#state === "established") this.#state = "fin-wait-1";
    else if (this.#state === "close-wait") this.#state = "last-ack";
  }

  /** One byte beyond a closed window, to hear whether it is open again (section 3.8.6.1). */
  #probe(): void {
    this.#out.send(this.#header(TcpFlag.ACK, this.#send.unacknowledged), 0, 1);
    this.#send.probed();
    this.#repeats = 0; // a guest that answers may keep it closed for as long as it likes
  }

  #startTimer(now: number): void {
    this.#timer = now + this.#send.timeout.value;
  }

  #timeWait(now: number): void {
    this.#state = "time-wait";
    this.#timer = now + TIME_WAIT;
  }

  #sendSyn(now: number): void {
    const { initialSequence, mss } = this.#options;
    const windowScale = this.#ownShift === 0 ? undefined : this.#ownShift;
    const header = this.#header(TcpFlag.SYN | TcpFlag.ACK, initialSequence, 0);
    this.#out.send({ ...header, mss, windowScale }, 0, 0);
    if (this.#send.next === initialSequence) this.#send.sent(1, now);
    this.#startTimer(now);
  }

  #acknowledge(): void {
    this.#out.send(this.#header(TcpFlag.ACK, this.#send.next), 0, 0);
  }

  #sendReset(): void {
    // To a SYN that was not answered, the sequence number is zero (section 3.10.7.1).
    const sequence = this.#state === "dialing" ? 0 : this.#send.next;
    this.#out.send({ ...this.#header(TcpFlag.RST | TcpFlag.ACK, sequence), window: 0 }, 0, 0);
  }

  #giveUp(): void {
    this.#sendReset();
    this.#close("timed-out");
  }

  #close(reason: CloseReason): void {
    this.#state = "closed";
    this.#timer = undefined;
    this.#inbound.clear();
    this.#out.closed(reason);
  }

  #header(flags: number, sequence: number, shift = this.#ownShift): TcpHeader {
    const { guestPort, serverPort } = this.#options;
    const window = this.#receive.offer(shift);
    return {
      source: serverPort,
      destination: guestPort,
      sequence,
      acknowledgment: this.#receive.expected,
      flags,
      window,
    };
  }
}
