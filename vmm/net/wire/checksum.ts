/**
 * The checksum of the Internet protocols: the ones' complement of the ones' complement sum of 16-bit
 * words (RFC 1071).
 *
 * @module
 */

/**
 * Adds bytes to a sum.
 *
 * @param bytes at an even distance from the start of what is summed
 * @param sum of what came before
 * @returns a sum that is not folded yet; exact for up to 2^37 bytes
 */
export function sumWords(bytes: Uint8Array, sum = 0): number {
  const even = bytes.length & ~1;
  for (let i = 0; i < even; i += 2) sum += bytes[i]! << 8 | bytes[i + 1]!;
  return bytes.length === even ? sum : sum + (bytes[even]! << 8);
}

/** The 16-bit checksum of a sum. */
export function checksumOf(sum: number): number {
  return ~foldSum(sum) & 0xffff;
}

/** A sum as 16 bits, with the carries added (RFC 1071 section 2, end-around carry). */
export function foldSum(sum: number): number {
  while (sum > 0xffff) sum = sum % 0x10000 + Math.floor(sum / 0x10000);
  return sum;
}

/**
 * The sum of the pseudo header of TCP and UDP (RFC 9293 section 3.1, RFC 768).
 *
 * @param source address as a 32-bit number
 * @param destination address as a 32-bit number
 * @param protocol number
 * @param length of header and payload in bytes
 */
export function pseudoSum(
  source: number,
  destination: number,
  protocol: number,
  length: number,
): number {
  return (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) +
    protocol + length;
}
