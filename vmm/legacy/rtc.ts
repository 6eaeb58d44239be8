/**
 * The real-time clock of a PC (MC146818), as far as a kernel reads it: the time of day.
 *
 * A vCPU that selects a register reads it before another one comes in between: kernels hold a lock
 * around the pair. So the index may live in each thread.
 *
 * @module
 */

const SECONDS = 0x00;
const MINUTES = 0x02;
const HOURS = 0x04;
const WEEKDAY = 0x06;
const DAY = 0x07;
const MONTH = 0x08;
const YEAR = 0x09;
const REGISTER_A = 0x0a;
const REGISTER_B = 0x0b;
const REGISTER_D = 0x0d;
const CENTURY = 0x32;

const A_32768_HZ = 0x26; // time base, rate; no update in progress
const B_24_HOURS = 0x02;
const D_VALID = 0x80;

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

/** The clock, read-only. */
export class Rtc {
  #index = 0;
  readonly #now: () => Date;

  /** @param now the host's clock */
  constructor(now: () => Date = () => new Date()) {
    this.#now = now;
  }

  /** Chooses the register that {@linkcode read} answers. */
  select(index: number): void {
    this.#index = index;
  }

  /** Reads the chosen register; time is UTC in binary-coded decimal. */
  read(): number {
    const now = this.#now();
    switch (this.#index) {
      case SECONDS:
        return bcd(now.getUTCSeconds());
      case MINUTES:
        return bcd(now.getUTCMinutes());
      case HOURS:
        return bcd(now.getUTCHours());
      case WEEKDAY:
        return bcd(now.getUTCDay() + 1);
      case DAY:
        return bcd(now.getUTCDate());
      case MONTH:
        return bcd(now.getUTCMonth() + 1);
      case YEAR:
        return bcd(now.getUTCFullYear() % 100);
      case CENTURY:
        return bcd(Math.floor(now.getUTCFullYear() / 100));
      case REGISTER_A:
        return A_32768_HZ;
      case REGISTER_B:
        return B_24_HOURS;
      case REGISTER_D:
        return D_VALID;
      default:
        return 0;
    }
  }
}
