/**
 * How long the output of a process is waited for once it has ended, while what it started still has the
 * pipes open: `exec > >(tee log)` in a shell leaves a tee behind that has most of it still to pass on.
 *
 * ```text
 * listening ── nothing written for QUIET, and nothing runs ──▸ ┌──────┐   ┌──────────┐
 *     │   ├─── MOST_TIME of waiting, or the time limit ──────▸ │ kill │ ─▸│ draining │ ─▸ over
 *     ▴   └─── MOST_BYTES ─────────────────────────────────▸   └──────┘   └──────────┘
 *  output, or something runs
 * ```
 *
 * @module
 */

/** What neither writes nor runs for so many milliseconds is ended. */
export const QUIET = 250;
/** The longest wait in milliseconds, whatever still writes. */
export const MOST_TIME = 10_000;
/** What may still be written meanwhile, in bytes. */
export const MOST_BYTES = 64 * 1024 * 1024;
/** What may still come out of the pipes when all writers are killed, in bytes: a pipe's limit each. */
export const MOST_REMAINDER = 2 * 1024 * 1024;

/** What is to be done next. */
export type LastWordsStep =
  /** Wait for output, for so many milliseconds; then say `wrote` or `silent`. */
  | { readonly kind: "wait"; readonly milliseconds: number }
  /** Look whether what is left runs; then say `looked`. */
  | { readonly kind: "look" }
  /** Kill what is left. */
  | { readonly kind: "kill" }
  /** Read no more. */
  | { readonly kind: "over" };

/**
 * See the module. Its clock tells the milliseconds that were spent waiting for output: one that stands
 * still while the client takes what there is, which may be slow.
 */
export class LastWords {
  #until: number;
  #quietSince: number;
  #bytes = 0;
  #state: "listening" | "draining" | "over" = "listening";
  #idle = false;

  /**
   * @param now when the process ended
   * @param left of its time limit, in milliseconds
   */
  constructor(now: number, left = Infinity) {
    this.#quietSince = now;
    this.#until = now + Math.min(MOST_TIME, Math.max(QUIET, left));
  }

  /** Output came. */
  wrote(bytes: number, now: number): void {
    this.#bytes += bytes;
    if (this.#state === "listening") this.#quietSince = now;
    else if (this.#bytes > MOST_REMAINDER) this.#state = "over";
  }

  /** None came in all the time that was to be waited. */
  silent(now: number): void {
    if (this.#state === "draining" && now >= this.#until) this.#state = "over";
  }

  /** Whether something of what is left runs, or would if it had a processor. */
  looked(runs: boolean, now: number): void {
    if (runs) this.#quietSince = now;
    else this.#idle = true;
  }

  /** The next step. */
  next(now: number): LastWordsStep {
    if (this.#state === "over") return { kind: "over" };
    if (this.#state === "draining") {
      return { kind: "wait", milliseconds: Math.max(0, this.#until - now) };
    }
    if (this.#idle || now >= this.#until || this.#bytes > MOST_BYTES) return this.#kill(now);
    const quiet = this.#quietSince + QUIET;
    if (now >= quiet) return { kind: "look" };
    return { kind: "wait", milliseconds: Math.min(quiet, this.#until) - now };
  }

  #kill(now: number): LastWordsStep {
    this.#state = "draining";
    this.#until = now + QUIET;
    this.#bytes = 0;
    return { kind: "kill" };
  }
}
