/**
 * What comes from the guest, put in its order: bytes that are expected go on at once, such as come too
 * early wait until those before them have come, within the window that was promised.
 *
 * Between guest and host nothing is lost, but a guest's own queue may drop a segment on the way.
 *
 * @module
 */
import type { ReceiveWindow } from "./receive_window.ts";
import { advance, distance } from "./sequence.ts";
import type { Output } from "./types.ts";

/** Pieces that may wait: one costs more than its bytes. */
const MOST_EARLY = 256;

interface Early {
  readonly sequence: number;
  readonly bytes: Uint8Array;
}

/** See the module. */
export class Inbound {
  readonly #window: ReceiveWindow;
  readonly #out: Output;
  /** In their order, none over another. */
  #early: Early[] = [];
  /** The number of the guest's FIN, once one has come. */
  #fin: number | undefined;

  /**
   * @param window what may come
   * @param out takes the bytes
   */
  constructor(window: ReceiveWindow, out: Output) {
    this.#window = window;
    this.#out = out;
  }

  /** Bytes that wait for others. */
  get waiting(): number {
    return this.#early.reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /**
   * Takes the part of a segment that is new and has room.
   *
   * @param sequence number of its first byte
   * @param length of its payload
   * @param fin whether it is the last one
   * @returns whether all has come, to the guest's end
   */
  take(sequence: number, length: number, fin: boolean): boolean {
    const window = this.#window;
    // One that is beyond the window has no room: it comes again.
    if (fin && window.room(advance(sequence, length)) >= 0) this.#fin = advance(sequence, length);
    const fresh = window.take(sequence, length);
    if (fresh === undefined) this.#keep(sequence, length);
    else {
      if (fresh.to > fresh.from) window.queued(this.#out.take(fresh.from, fresh.to));
      this.#drain();
    }
    return this.#fin !== undefined && this.#fin === window.expected;
  }

  /** Keeps what of an early segment is not there yet. */
  #keep(sequence: number, length: number): void {
    const start = sequence;
    const end = advance(sequence, Math.min(length, this.#window.room(sequence)));
    for (const { sequence: from, bytes } of [...this.#early]) {
      if (distance(sequence, end) >= 0) return;
      if (distance(from, sequence) > 0) this.#insert(start, sequence, minimum(from, end));
      const to = advance(from, bytes.length);
      if (distance(to, sequence) > 0) sequence = to;
    }
    if (distance(end, sequence) > 0) this.#insert(start, sequence, end);
  }

  #insert(start: number, from: number, to: number): void {
    if (this.#early.length >= MOST_EARLY || distance(to, from) <= 0) return;
    const bytes = this.#out.keep(distance(from, start), distance(to, start));
    const index = this.#early.findIndex(({ sequence }) => distance(sequence, from) > 0);
    this.#early.splice(index < 0 ? this.#early.length : index, 0, { sequence: from, bytes });
  }

  /** Passes on what has waited for what has come now. */
  #drain(): void {
    const window = this.#window;
    for (let first = this.#early[0]; first !== undefined; first = this.#early[0]) {
      const { sequence, bytes } = first;
      const fresh = window.take(sequence, bytes.length);
      if (fresh === undefined) return;
      this.#early.shift();
      const rest = bytes.subarray(fresh.from, fresh.to);
      if (rest.length > 0) window.queued(this.#out.takeKept(rest));
    }
  }

  /** Forgets what waits. */
  clear(): void {
    this.#early = [];
  }
}

function minimum(a: number, b: number): number {
  return distance(a, b) < 0 ? a : b;
}
