/**
 * For tests: the two threads of the store-buffering litmus test of immediate_exit_test.ts. In each
 * round, each stores to a place and then loads what the other one stores.
 *
 * @module
 */
import { workerScope } from "../../base/worker_scope.ts";
import { ImmediateExit } from "./vcpu_control.ts";

/** The operation that is tested. */
export type Side = "raise" | "clear";

/** A thread's part. */
export interface Litmus {
  /** Of {@linkcode litmusMemory}. */
  readonly buffer: SharedArrayBuffer;
  readonly side: Side;
}

const LINE = 16; // words of a cache line: each place has its own
const ROUNDS = 1_000_000;
/** Milliseconds after which no new round begins: on a busy host few rounds are played at once. */
const LONGEST = 60_000;
const BYTE = 0;
const FLAG = LINE;
const OBSERVER = 2 * LINE;
const OTHER = 3 * LINE;
const LAST = 0x7fff_ffff;

/** What both share. */
export function litmusMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(4 * LINE * 4);
}

/** Waits for the other side by spinning, so that both go on at once where they run at once. */
function meet(words: Int32Array, mine: number, theirs: number, time: number): number {
  Atomics.store(words, mine, time);
  for (;;) {
    const seen = Atomics.load(words, theirs);
    if (seen >= time) return seen;
  }
}

/** Plays the tested side. */
export function play({ buffer, side }: Litmus): Uint8Array<ArrayBuffer> {
  const words = new Int32Array(buffer);
  const exit = new ImmediateExit(buffer, BYTE);
  const seen = new Uint8Array(ROUNDS);
  for (let round = 0; round < ROUNDS; round++) {
    if (meet(words, OTHER, OBSERVER, 2 * round + 1) === LAST) break;
    exit[side]();
    seen[round] = Atomics.load(words, FLAG);
    meet(words, OTHER, OBSERVER, 2 * round + 2);
  }
  return seen;
}

/** Plays the other side. */
export function observe(buffer: SharedArrayBuffer, before: number): Uint8Array<ArrayBuffer> {
  const words = new Int32Array(buffer);
  const bytes = new Uint8Array(buffer);
  const seen = new Uint8Array(ROUNDS);
  const end = performance.now() + LONGEST;
  for (let round = 0; round < ROUNDS; round++) {
    Atomics.store(words, FLAG, 0);
    Atomics.store(bytes, BYTE, before);
    if (performance.now() > end) {
      Atomics.store(words, OBSERVER, LAST);
      return seen.subarray(0, round);
    }
    meet(words, OBSERVER, OTHER, 2 * round + 1);
    Atomics.store(words, FLAG, 1);
    seen[round] = Atomics.load(bytes, BYTE);
    while (Atomics.load(words, OTHER) < 2 * round + 2);
    Atomics.store(words, OBSERVER, 2 * round + 2);
  }
  return seen;
}

const scope = workerScope<Litmus, Uint8Array>();
// The test imports this module, too, but nobody sends its thread a message.
scope.onmessage = ({ data }) => scope.postMessage(play(data));
