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
