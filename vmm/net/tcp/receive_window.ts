/**
 * The receiving half of a connection: what is expected next, how much may come, and what waits for
 * the server (RFC 9293 section 3.3.1, RCV.NXT and RCV.WND).
 *
 * @module
 */
import { advance, distance } from "./sequence.ts";

/** What of a segment is new and has room: offsets in its payload. */
export interface Fresh {
  /** Of the first byte. */
  readonly from: number;
  /** Behind the last one. */
  readonly to: number;
}

/** See the module. */
export class ReceiveWindow {
  #expected: number;
  /** The right edge of the window that the guest was told: RCV.NXT + RCV.WND. */
  #edge: number;
  /** The edge as the last header told it: up to a unit of the scale less. */
  #told: number;
  #waiting = 0;
  #ended = false;
  readonly #capacity: number;

  /**
   * @param expected the sequence number after the guest's SYN
   * @param capacity bytes that may wait for the server
   */
  constructor(expected: number, capacity: number) {
    this.#expected = this.#edge = this.#told = expected;
    this.#capacity = capacity;
  }

  /** RCV.NXT. */
  get expected(): number {
    return this.#expected;
  }

  /** Bytes that wait for the server. */
  get waiting(): number {
    return this.#waiting;
  }

  /** RFC 9293 section 3.10.7.4, the table of acceptable segments; `length` counts a FIN. */
  accepts(sequence: number, length: number): boolean {
    const window = distance(this.#edge, this.#expected);
    const first = distance(sequence, this.#expected);
    if (length === 0) return window === 0 ? first === 0 : first >= 0 && first < window;
    if (window === 0) return false;
    const last = first + length - 1;
    return (first >= 0 && first < window) || (last >= 0 && last < window);
  }

  /**
   * Takes what of a segment is new and has room; undefined for one that comes too early.
   */
  take(sequence: number, length: number): Fresh | undefined {
    const early = distance(sequence, this.#expected);
    if (early > 0) return undefined;
    const from = Math.min(Math.abs(early), length);
    const to = Math.min(length, from + Math.max(0, distance(this.#edge, this.#expected)));
    this.#expected = advance(this.#expected, to - from);
    return { from, to };
  }

  /** Bytes of the window from a number on; negative behind its edge. */
  room(sequence: number): number {
    return distance(this.#edge, sequence);
  }

  /** So many of the bytes that were taken wait for the server. */
  queued(bytes: number): void {
    this.#waiting += bytes;
  }

  /** The guest has sent all that it will. */
  end(): void {
    this.#expected = advance(this.#expected, 1);
    this.#edge = this.#expected;
    this.#ended = true;
  }

  /**
   * The server's socket took so many bytes.
   *
   * @returns by how many bytes the window can be opened now
   */
  written(bytes: number): number {
    this.#waiting -= bytes;
    return this.#ended ? 0 : distance(advance(this.#expected, this.#room), this.#told);
  }

  /**
   * The window as the next header tells it; it is promised from then on, and no byte of a promise is
   * refused later. What is left of one is told by whole units of the scale, rounded down, as RFC 7323
   * section 2.4 expects: rounded up it would grow with each small segment, without any room.
   *
   * @param shift by how many bits it is shifted
   */
  offer(shift: number): number {
    if (this.#ended) return 0;
    const unit = 2 ** shift;
    const units = Math.min(0xffff, Math.floor(this.#room / unit));
    const edge = advance(this.#expected, units * unit);
    if (distance(edge, this.#edge) > 0) this.#edge = edge;
    const promised = Math.max(0, distance(this.#edge, this.#expected));
    const told = Math.min(0xffff, Math.floor(promised / unit));
    this.#told = advance(this.#expected, told * unit);
    return told;
  }

  get #room(): number {
    return Math.max(0, this.#capacity - this.#waiting);
  }
}
