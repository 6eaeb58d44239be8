/**
 * Bytes that tell where they belong: a byte that is missing, repeated or moved is seen.
 *
 * @module
 */

/** The pattern repeats after so many bytes: a prime, so that no usual size divides it. */
const PERIOD = 65_521;
const pattern = new Uint8Array(PERIOD + (1 << 18));
for (let i = 0; i < PERIOD; i++) pattern[i] = (i * 7 + (i >> 8) * 13) & 255;
pattern.copyWithin(PERIOD, 0, PERIOD);
for (let at = PERIOD; at < pattern.length; at += PERIOD) pattern.copyWithin(at, 0, PERIOD);

/** Fills bytes with the pattern, of which they begin at an offset. */
function fillPattern(bytes: Uint8Array, offset: number): void {
  const from = offset % PERIOD;
  bytes.set(pattern.subarray(from, from + bytes.length));
}

/** Compares bytes with the pattern. */
class Checker {
  bytes = 0;

  /** Throws at the first wrong byte. */
  check(bytes: Uint8Array): void {
    const from = this.bytes % PERIOD;
    const expected = pattern.subarray(from, from + bytes.length);
    // The native comparison of strings of bytes: a loop would be slower than the network.
    if (!equal(bytes, expected)) throw new Error(`wrong bytes after ${this.bytes}`);
    this.bytes += bytes.length;
  }
}

const PIECE = 1 << 18; // bytes that are read or written at once

/** Sends so many bytes of the pattern. */
export async function sendPattern(connection: Deno.TcpConn, bytes: number): Promise<void> {
  const buffer = new Uint8Array(PIECE);
  for (let at = 0; at < bytes;) {
    const piece = buffer.subarray(0, Math.min(PIECE, bytes - at));
    fillPattern(piece, at);
    for (let done = 0; done < piece.length;) done += await connection.write(piece.subarray(done));
    at += piece.length;
  }
}

/** Reads the pattern to its end; how many bytes that were. */
export async function readPattern(connection: Deno.TcpConn): Promise<number> {
  const buffer = new Uint8Array(PIECE);
  const checker = new Checker();
  for (;;) {
    const count = await connection.read(buffer);
    if (count === null) return checker.bytes;
    checker.check(buffer.subarray(0, count));
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  const [left, right] = [a, b].map((bytes) => new DataView(bytes.buffer, bytes.byteOffset));
  const words = a.length & ~7;
  for (let at = 0; at < words; at += 8) {
    if (
      left!.getInt32(at) !== right!.getInt32(at) ||
      left!.getInt32(at + 4) !== right!.getInt32(at + 4)
    ) return false;
  }
  for (let at = words; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}
