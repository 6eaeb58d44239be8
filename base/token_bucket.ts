/**
 * A token bucket: so much may pass in the long run, and so much at once.
 *
 * @module
 */

/** See the module. Times are milliseconds from any origin, never less than before. */
export class TokenBucket {
  /** Tokens a second. */
  readonly rate: number;
  readonly #burst: number;
  #tokens: number;
  #filled: number;

  /**
   * A full bucket.
   *
   * @param rate tokens a second, more than 0
   * @param burst most tokens
   * @param now the time
   */
  constructor(rate: number, burst: number, now: number) {
    this.rate = rate;
    this.#burst = burst;
    this.#tokens = burst;
    this.#filled = now;
  }

  #fill(now: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#filled) * this.rate / 1000);
    this.#filled = now;
  }

  /** Takes tokens when there are as many. @returns whether there were */
  take(amount: number, now: number): boolean {
    this.#fill(now);
    if (this.#tokens < amount) return false;
    this.#tokens -= amount;
    return true;
  }

  /** Takes tokens that may not be there yet: the bucket is in debt then. */
  spend(amount: number, now: number): void {
    this.#fill(now);
    this.#tokens -= amount;
  }

  /** Milliseconds until the bucket is out of debt; 0 when it is. */
  debt(now: number): number {
    this.#fill(now);
    return this.#tokens >= 0 ? 0 : -this.#tokens / this.rate * 1000;
  }
}

/** What may pass at once, in milliseconds of the rate. */
const BURST = 100;

/**
 * A limit on what passes one way, which may change. What passes may be longer than what may pass at once:
 * the limit is in debt then, and what comes next waits.
 */
export class RateLimit {
  readonly #now: () => number;
  readonly #leastBurst: number;
  #bucket: TokenBucket | undefined;

  /**
   * Without a limit at first.
   *
   * @param now milliseconds from any origin, never less than before
   * @param leastBurst what passes at once, however low the rate
   */
  constructor(now: () => number, leastBurst: number) {
    this.#now = now;
    this.#leastBurst = leastBurst;
  }

  /** Units a second; undefined is no limit. */
  set rate(rate: number | undefined) {
    if (rate === this.#bucket?.rate) return;
    if (rate === undefined) this.#bucket = undefined;
    else {
      const burst = Math.max(this.#leastBurst, rate * BURST / 1000);
      this.#bucket = new TokenBucket(rate, burst, this.#now());
    }
  }

  /** So much has passed. */
  passed(amount: number): void {
    this.#bucket?.spend(amount, this.#now());
  }

  /** Milliseconds until something may pass. */
  get wait(): number {
    return this.#bucket?.debt(this.#now()) ?? 0;
  }
}
