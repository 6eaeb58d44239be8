/**
 * The sending half of a connection: what was sent, what was acknowledged, and what the guest has room
 * for (RFC 9293 section 3.3.1, SND.UNA, SND.NXT, SND.WND, SND.WL1, SND.WL2).
 *
 * @module
 */
import type { TcpHeader } from "../wire/tcp.ts";
import { RetransmissionTimeout } from "./rtt.ts";
import { advance, distance } from "./sequence.ts";

/** See the module. */
export class SendWindow {
  /** The retransmission timeout. */
  readonly timeout: RetransmissionTimeout = new RetransmissionTimeout();
  #unacknowledged: number;
  #next: number;
  /** The highest that SND.NXT ever was: it goes back when something is sent again. */
  #highest: number;
  #window: number;
  #windowFrom: number;
  #windowTo = 0;
  readonly #shift: number;
  /** What is being timed: the sequence number that ends it, and when it was sent. */
  #timed: { readonly end: number; readonly at: number } | undefined;

  /**
   * @param initialSequence ours
   * @param syn the guest's: its window is not shifted (RFC 7323 section 2.2)
   */
  constructor(initialSequence: number, syn: TcpHeader) {
    this.#unacknowledged = this.#next = this.#highest = initialSequence;
    this.#window = syn.window;
    this.#windowFrom = syn.sequence;
    this.#shift = syn.windowScale ?? 0;
  }

  /** SND.UNA. */
  get unacknowledged(): number {
    return this.#unacknowledged;
  }

  /** SND.NXT. */
  get next(): number {
    return this.#next;
  }

  /** Behind the last number that was ever sent. */
  get highest(): number {
    return this.#highest;
  }

  /** SND.WND in bytes. */
  get window(): number {
    return this.#window;
  }

  /** How many numbers were sent and not acknowledged, of what was not gone back over. */
  get offset(): number {
    return distance(this.#next, this.#unacknowledged);
  }

  /** So many numbers are sent; the first time, they are timed. */
  sent(length: number, now: number): void {
    this.#next = advance(this.#next, length);
    if (distance(this.#next, this.#highest) <= 0) return;
    this.#highest = this.#next;
    this.#timed ??= { end: this.#next, at: now };
  }

  /** One byte behind the window is sent, and is no progress. */
  probed(): void {
    const end = advance(this.#unacknowledged, 1);
    if (distance(end, this.#highest) > 0) this.#highest = end;
  }

  /** What is not acknowledged is sent again; it is not timed (RFC 6298 section 3, Karn's algorithm). */
  rewind(): void {
    this.#next = this.#unacknowledged;
    this.#timed = undefined;
  }

  /** Whether a segment acknowledges what was never sent. */
  isBeyond({ acknowledgment }: TcpHeader): boolean {
    return distance(acknowledgment, this.#highest) > 0;
  }

  /**
   * Takes acknowledgment and window of a segment.
   *
   * @returns how many numbers it acknowledges for the first time; negative for an old one
   */
  update({ sequence, acknowledgment, window }: TcpHeader, now: number): number {
    const count = distance(acknowledgment, this.#unacknowledged);
    const isNewer = distance(sequence, this.#windowFrom) > 0 ||
      (sequence === this.#windowFrom && distance(acknowledgment, this.#windowTo) >= 0);
    if (count >= 0 && isNewer) {
      this.#window = window * 2 ** this.#shift;
      this.#windowFrom = sequence;
      this.#windowTo = acknowledgment;
    }
    if (count <= 0) return count;
    this.#unacknowledged = acknowledgment;
    if (distance(this.#next, acknowledgment) < 0) this.#next = acknowledgment;
    this.timeout.progressed();
    if (this.#timed !== undefined && distance(acknowledgment, this.#timed.end) >= 0) {
      this.timeout.measured(now - this.#timed.at);
      this.#timed = undefined;
    }
    return count;
  }
}
