/**
 * Sequence numbers: 32 bits that wrap around (RFC 9293 section 3.4).
 *
 * @module
 */

/** `number + count`; the count may be negative. */
export function advance(number: number, count: number): number {
  return (number + count) >>> 0;
}

/** How far `a` is after `b`: negative when it is before. Right for up to 2^31 - 1 either way. */
export function distance(a: number, b: number): number {
  return (a - b) | 0;
}
