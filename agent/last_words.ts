/**
 * How long the output of a process is waited for once it has ended, while what it started still has the
 * pipes open: `exec > >(tee log)` in a shell leaves a tee behind that has most of it still to pass on.
 *
 * ```text
 * listening ── nothing written for QUIET, and nothing ran ───▸ ┌──────┐   ┌──────────┐
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
  /** What was seen since it became quiet, and when. */
  #seen: { readonly mark: string; readonly at: number } | undefined;

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
    if (this.#state === "listening") this.#stir(now);
    else if (this.#bytes > MOST_REMAINDER) this.#state = "over";
  }

  /** None came in all the time that was to be waited. */
  silent(now: number): void {
    if (this.#state === "draining" && now >= this.#until) this.#state = "over";
  }

  /**
   * What is left was looked at. It is idle when two looks see none of it run, and nothing that ran in
   * between: where processes start slowly, one look finds a shell's loop asleep.
   *
   * @param activity.runs whether something has a processor or wants one
   * @param activity.mark another one after something has run
   */
  looked({ runs, mark }: { readonly runs: boolean; readonly mark: string }, now: number): void {
    const before = this.#seen?.mark;
    if (runs || (before !== undefined && before !== mark)) this.#stir(now);
    else if (before !== undefined) this.#idle = true;
    this.#seen = { mark, at: now };
  }

  #stir(now: number): void {
    this.#quietSince = now;
    this.#seen = undefined;
  }

  /** The next step. */
  next(now: number): LastWordsStep {
    if (this.#state === "over") return { kind: "over" };
    if (this.#state === "draining") {
      return { kind: "wait", milliseconds: Math.max(0, this.#until - now) };
    }
    if (this.#idle || now >= this.#until || this.#bytes > MOST_BYTES) return this.#kill(now);
    const due = this.#seen === undefined
      ? this.#quietSince + QUIET / 2
      : Math.max(this.#quietSince + QUIET, this.#seen.at + QUIET / 2);
    if (now >= due) return { kind: "look" };
    return { kind: "wait", milliseconds: Math.min(due, this.#until) - now };
  }

  #kill(now: number): LastWordsStep {
    this.#state = "draining";
    this.#until = now + QUIET;
    this.#bytes = 0;
    return { kind: "kill" };
  }
}
