/**
 * Random and damaged inputs for whatever reads other people's bytes.
 *
 * A fuzzer is one `Deno.test`. Its inputs are numbered, and each is made from a seed of its own, so
 * that one seed repeats one input. An input fails when anything but an expected error is thrown, when
 * it takes too long, or when memory grows without bounds.
 *
 * CLOUDLET_FUZZ_SECONDS says how long each fuzzer runs (0.2 when not set), CLOUDLET_FUZZ_SEED what
 * the first input is made from. `deno task fuzz` sets both.
 *
 * @module
 */
import { concatBytes } from "../../base/bytes.ts";
import assert from "node:assert/strict";
import { CloudletError } from "../../base/errors.ts";

const SECONDS = Number(Deno.env.get("CLOUDLET_FUZZ_SECONDS") ?? 0.2);
const SEED = Number(Deno.env.get("CLOUDLET_FUZZ_SEED") ?? Date.now() % 2 ** 31);
/** Far from what any input takes, even beside a compiler on the same processor. */
const SLOW = 10_000; // milliseconds
const HANGS = 30_000;
const MAX_GROWTH = 1024 * 1024; // KiB of resident memory, what waits to be collected included
const LEAST_INPUTS = 10;

/** Bytes and words at which code decides something else. */
const ODD_BYTES = [0, 1, 0x09, 0x0a, 0x0d, 0x20, 0x22, 0x2e, 0x2f, 0x3d, 0x7f, 0x80, 0xfe, 0xff];
const ODD_WORDS = [
  0n,
  1n,
  2n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
  (1n << 64n) - 4096n,
];
const ODD_NUMBERS = [-1, 0, 0.5, -0, 1, 255, 65536, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 1e300];
const ODD_TEXTS = [
  "",
  " ",
  "\0",
  "/",
  "..",
  "a/../b",
  "\ud800",
  "ü",
  "__proto__",
  "x".repeat(5000),
];

/** A source of choices: mulberry32, small, seeded, good enough for inputs. */
export class Random {
  #state: number;

  /** @param seed any number; equal seeds make equal choices */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** 32 random bits. */
  u32(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** From 0 to `limit`, exclusive. */
  below(limit: number): number {
    return this.u32() % limit;
  }

  /** Once in so many times. */
  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  /** One of them. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** So many random bytes. */
  bytes(count: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(count).map(() => this.u32());
  }

  /** Some of the words one after the other, up to `most`. */
  words(words: readonly string[], most = 12): string {
    return Array.from({ length: this.below(most + 1) }, () => this.pick(words)).join("");
  }

  /** A text of characters that matter to parsers, and of any others. */
  text(most = 12): string {
    return Array.from(
      { length: this.below(most + 1) },
      () =>
        this.chance(6)
          ? String.fromCharCode(this.u32() & 0xffff)
          : String.fromCharCode(this.chance(2) ? this.pick(ODD_BYTES) : 0x20 + this.below(95)),
    ).join("");
  }

  /**
   * The bytes with up to `most` changes: bits, bytes and little- or big-endian words, pieces taken
   * away, put twice or put elsewhere, the end cut off.
   */
  damage(original: Uint8Array, most = 6): Uint8Array<ArrayBuffer> {
    let bytes = new Uint8Array(original);
    for (let count = 1 + this.below(most); count > 0 && bytes.length > 0; count--) {
      const at = this.below(bytes.length);
      const length = 1 + this.below(Math.min(bytes.length - at, this.pick([4, 64, 1024])));
      switch (this.below(10)) {
        case 0:
        case 1:
        case 2:
          bytes[at]! ^= 1 << this.below(8);
          break;
        case 3:
        case 4:
          bytes[at] = this.chance(2) ? this.pick(ODD_BYTES) : this.u32();
          break;
        case 5:
        case 6: {
          const size = this.pick([1, 2, 4, 8]);
          let word = this.pick(ODD_WORDS);
          const big = this.chance(3);
          const from = this.chance(2) ? at : at - at % size;
          for (let i = 0; i < size && from + i < bytes.length; i++, word >>= 8n) {
            bytes[big ? Math.max(0, from + size - 1 - i) % bytes.length : from + i] = Number(
              word & 0xffn,
            );
          }
          break;
        }
        case 7:
          bytes = this.chance(2)
            ? bytes.slice(0, at)
            : concatenate(bytes.subarray(0, at), bytes.subarray(at + length));
          break;
        case 8:
          bytes = concatenate(
            bytes.subarray(0, at),
            this.chance(2) ? bytes.subarray(at, at + length) : this.bytes(Math.min(length, 40)),
            bytes.subarray(at),
          );
          break;
        default:
          bytes.copyWithin(this.below(bytes.length), at, at + length);
      }
    }
    return bytes;
  }

  /** A text with such changes, and with words of its language put in. */
  damageText(original: string, words: readonly string[] = []): string {
    let text = original;
    for (let count = 1 + this.below(4); count > 0; count--) {
      const at = this.below(text.length + 1);
      const end = Math.min(text.length, at + this.below(this.pick([2, 8, 60])));
      const put = words.length > 0 && this.chance(2) ? this.pick(words) : this.text(3);
      text = text.slice(0, at) + (this.chance(4) ? text.slice(at, end).repeat(2) : put) +
        text.slice(end);
    }
    return text;
  }

  /** A value that JSON can have, with some of its parts changed, left out, or put elsewhere. */
  damageJson(value: unknown, depth = 0): unknown {
    if (this.chance(depth === 0 ? 30 : 12)) return this.#odd(value);
    if (Array.isArray(value)) {
      const items = value.flatMap((item) => {
        if (this.chance(20)) return [];
        const changed = this.damageJson(item, depth + 1);
        return this.chance(20) ? [changed, changed] : [changed];
      });
      return this.chance(20) ? [...items, this.#odd(value)] : items;
    }
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value).flatMap(([key, item]): [string, unknown][] => {
      if (this.chance(20)) return [];
      return [[this.chance(40) ? this.text(4) : key, this.damageJson(item, depth + 1)]];
    });
    if (this.chance(20)) entries.push([this.pick(ODD_TEXTS), this.#odd(value)]);
    return Object.fromEntries(entries);
  }

  #odd(value: unknown): unknown {
    switch (this.below(8)) {
      case 0:
        return null;
      case 1:
        return this.pick(ODD_NUMBERS);
      case 2:
        return this.pick(ODD_TEXTS);
      case 3:
        return this.chance(2);
      case 4:
        return [value];
      case 5:
        return {};
      case 6:
        return typeof value === "string" ? this.damageText(value) : [];
      default: {
        let nested: unknown = value;
        for (let depth = this.below(200); depth > 0; depth--) nested = [nested];
        return nested;
      }
    }
  }
}

/** All bytes one after the other. */
export function concatenate(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return concatBytes(parts);
}

/** Fails for everything but a refusal: a CloudletError of one of the codes, when any are given. */
export function expectRefusal(error: unknown, ...codes: readonly string[]): void {
  if (error instanceof CloudletError && (codes.length === 0 || codes.includes(error.code))) {
    assert.match(error.message, /^Cannot /);
    return;
  }
  throw error;
}

/** What `read` returns; undefined when it refuses as {@linkcode expectRefusal} has it. */
export function refusedOr<T>(read: () => T, ...codes: readonly string[]): T | undefined {
  try {
    return read();
  } catch (error) {
    expectRefusal(error, ...codes);
    return undefined;
  }
}

/** As {@linkcode refusedOr}, of a promise. */
export async function refusedOrAsync<T>(
  read: () => Promise<T>,
  ...codes: readonly string[]
): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    expectRefusal(error, ...codes);
    return undefined;
  }
}

/** Makes one input from the choices and tries it; may return how many inputs it was. */
export type TryInput = (random: Random) => number | void | Promise<number | void>;

/** Options of {@linkcode fuzz}. */
export interface FuzzOptions {
  /** Leave the fuzzer out: what it needs is not there. */
  readonly ignore?: boolean;
}

/**
 * Registers a fuzzer.
 *
 * @param name for `deno task fuzz NAME`
 * @param setup makes what all inputs need; the stack ends it
 */
export function fuzz(
  name: string,
  setup: (stack: AsyncDisposableStack) => TryInput | Promise<TryInput>,
  options: FuzzOptions = {},
): void {
  Deno.test({
    name: `fuzz: ${name}`,
    ignore: options.ignore ?? false,
    fn: async () => {
      await using stack = new AsyncDisposableStack();
      const tryInput = await setup(stack);
      using watch = new Watch(name);
      const before = residentMemory(true);
      const end = performance.now() + SECONDS * 1000;
      let inputs = 0;
      for (let i = 0; i < LEAST_INPUTS || performance.now() < end; i++) {
        const seed = (SEED + i * 7919) | 0;
        watch.begin(seed);
        const began = performance.now();
        try {
          const result = tryInput(new Random(seed));
          inputs += (result instanceof Promise ? await result : result) ?? 1;
          const took = performance.now() - began;
          assert(took < SLOW, `one input took ${Math.round(took)} ms`);
        } catch (cause) {
          throw new Error(`CLOUDLET_FUZZ_SEED=${seed} repeats what failed`, { cause });
        }
      }
      const grown = residentMemory(false) - before;
      assert(grown < MAX_GROWTH, `memory grew by ${grown >> 10} MiB; first seed ${SEED}`);
      console.log(`fuzz ${name}: ${inputs} inputs, seed ${SEED}`);
    },
  });
}

/** KiB of resident memory: as it is, from which its peak is counted anew, or that peak (proc(5)). */
function residentMemory(reset: boolean): number {
  if (reset) Deno.writeTextFileSync("/proc/self/clear_refs", "5");
  const field = reset ? "VmRSS" : "VmHWM";
  return Number(RegExp(`${field}:\\s*(\\d+)`).exec(Deno.readTextFileSync("/proc/self/status"))![1]);
}

const WATCH = `onmessage = ({ data: { words, hangs, name, pid } }) => {
  let seen = -1;
  setInterval(() => {
    const now = Atomics.load(words, 0);
    if (now === seen) {
      console.error("fuzz " + name + ": CLOUDLET_FUZZ_SEED=" + Atomics.load(words, 1) + " hangs");
      Deno.kill(pid, "SIGKILL");
    }
    seen = now;
  }, hangs);
};`;

/** Ends the process when an input does not end: nothing else can, from outside of its thread. */
class Watch implements Disposable {
  readonly #words = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;

  constructor(name: string) {
    this.#worker = new Worker(`data:text/javascript,${encodeURIComponent(WATCH)}`, {
      type: "module",
    });
    this.#worker.postMessage({ words: this.#words, hangs: HANGS, name, pid: Deno.pid });
  }

  begin(seed: number): void {
    this.#words[1] = seed;
    Atomics.add(this.#words, 0, 1);
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}
