/**
 * How much of this host an image may take while it is fetched and unpacked: whoever made it chooses
 * how large that is, and a few kilobytes can unpack to any size.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { ImageSettings } from "../base/settings.ts";

/** Limits of one image, with everything that is added to it. */
export interface ImageLimits {
  /** Bytes of all layers and packages, unpacked. */
  readonly bytes: number;
  /**
   * Files, directories and links of all layers and packages. They are in memory until the image is
   * written: one with long names or attributes counts once more for each KiB of them.
   */
  readonly entries: number;
  /** Milliseconds from the first request to the last file. */
  readonly time: number;
}

const MIB = 2 ** 20;
const MINUTE = 60_000;

/** What holds unless the settings say otherwise. */
export const DEFAULT_LIMITS: ImageLimits = {
  bytes: 32 * 1024 * MIB,
  entries: 1_000_000,
  time: 60 * MINUTE,
};

/** The limits that the settings name. */
export function imageLimits(settings: ImageSettings): ImageLimits {
  const { max_mib, max_entries, max_minutes } = settings;
  return {
    bytes: max_mib === undefined ? DEFAULT_LIMITS.bytes : max_mib * MIB,
    entries: max_entries ?? DEFAULT_LIMITS.entries,
    time: max_minutes === undefined ? DEFAULT_LIMITS.time : max_minutes * MINUTE,
  };
}

/** A count of bytes that several threads add to. */
export interface SharedCount {
  /** One signed 64-bit number. */
  readonly buffer: SharedArrayBuffer;
  /** What it may reach. */
  readonly limit: number;
}

/** Adds to a shared count; false when that is beyond its limit. */
export function addShared({ buffer, limit }: SharedCount, bytes: number): boolean {
  const before = Atomics.add(new BigInt64Array(buffer), 0, BigInt(bytes));
  return Number(before) + bytes <= limit;
}

/** Counts what one image takes. */
export class ImageBudget implements Disposable {
  /** Fires when the time is up, or when the caller gives up. */
  readonly signal: AbortSignal;
  /** The bytes so far, for those who unpack them. */
  readonly bytes: SharedCount;
  readonly #name: string;
  readonly #limits: ImageLimits;
  readonly #end: number;
  readonly #timer: ReturnType<typeof setTimeout>;
  #entries = 0;

  /**
   * Begins to count, and to measure the time.
   *
   * @param name of the image, for messages
   * @param outer ends the work early
   */
  constructor(name: string, limits: ImageLimits = DEFAULT_LIMITS, outer?: AbortSignal) {
    this.#name = name;
    this.#limits = limits;
    this.bytes = { buffer: new SharedArrayBuffer(8), limit: limits.bytes };
    this.#end = performance.now() + limits.time;
    const late = new AbortController();
    this.#timer = setTimeout(() => late.abort(this.#timeIsUp()), limits.time);
    this.signal = outer === undefined ? late.signal : AbortSignal.any([outer, late.signal]);
  }

  /**
   * Counts bytes that are unpacked already.
   *
   * @throws {CloudletError} `invalid-input` beyond the limit
   */
  addBytes(bytes: number): void {
    if (!addShared(this.bytes, bytes)) throw this.#tooLarge();
  }

  /**
   * Counts a file, a directory or a link.
   *
   * @param size bytes of its names and attributes
   * @throws {CloudletError} `invalid-input` beyond the limit, or when the time is up
   */
  addEntry(size: number): void {
    this.#entries += 1 + Math.floor(size / 1024);
    if (this.#entries > this.#limits.entries) {
      throw this.#refuse(
        `it has more than ${this.#limits.entries} files, directories and links`,
        "max_entries",
      );
    }
    // Whoever unpacks gives no signal a chance to fire.
    if (performance.now() > this.#end) throw this.#timeIsUp();
  }

  /** What to throw for an error of the work: the limit that led to it, if one did. */
  explain(error: unknown): unknown {
    if (Atomics.load(new BigInt64Array(this.bytes.buffer), 0) > this.#limits.bytes) {
      return this.#tooLarge();
    }
    const { aborted, reason } = this.signal;
    return aborted && reason instanceof LimitReached ? reason : error;
  }

  /** Measures the time no longer. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #tooLarge(): LimitReached {
    const mib = Math.floor(this.#limits.bytes / MIB);
    return this.#refuse(`it has more than ${mib} MiB unpacked`, "max_mib");
  }

  #timeIsUp(): LimitReached {
    const minutes = this.#limits.time / MINUTE;
    return this.#refuse(`fetching and unpacking it takes over ${minutes} minutes`, "max_minutes");
  }

  #refuse(why: string, setting: keyof ImageSettings): LimitReached {
    return new LimitReached(`Cannot make the image ${this.#name}: ${why}`, {
      code: "invalid-input",
      remedy: `use a smaller image, or raise [images] ${setting} in the settings`,
    });
  }
}

class LimitReached extends CloudletError {}
