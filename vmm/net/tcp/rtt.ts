/**
 * The retransmission timeout (RFC 6298). Times are in milliseconds.
 *
 * @module
 */

/** Section 2: before anything was measured. */
const INITIAL = 1000;
/** Linux's TCP_RTO_MIN: section 2.4's second would cost a local connection too much. */
const LEAST = 200;
/** Section 2.5: at least 60 seconds. */
const MOST = 60_000;
/** Section 2. */
const [ALPHA, BETA, K] = [1 / 8, 1 / 4, 4];
/** The clock of the guest that is measured may be so coarse. */
const GRANULARITY = 10;

/** See the module. */
export class RetransmissionTimeout {
  #smoothed: number | undefined;
  #variation = 0;
  #timeout = INITIAL;
  #backoff = 1;

  /** The timeout as it is now. */
  get value(): number {
    return Math.min(MOST, this.#timeout * this.#backoff);
  }

  /** Takes a measurement, of something that was sent once (section 3, Karn's algorithm). */
  measured(time: number): void {
    if (this.#smoothed === undefined) {
      this.#smoothed = time;
      this.#variation = time / 2;
    } else {
      this.#variation += BETA * (Math.abs(this.#smoothed - time) - this.#variation);
      this.#smoothed += ALPHA * (time - this.#smoothed);
    }
    this.#timeout = Math.max(
      LEAST,
      this.#smoothed + Math.max(GRANULARITY, K * this.#variation),
    );
  }

  /** The timer ran out (section 5.5). */
  expired(): void {
    if (this.value < MOST) this.#backoff *= 2;
  }

  /** New data was acknowledged: the path works. */
  progressed(): void {
    this.#backoff = 1;
  }
}
