/**
 * Bytes of connections and files: lines, and whatever is to be written as a whole.
 *
 * @module
 */

/**
 * Reads a line, and not a byte of what follows it.
 *
 * @param most bytes, without the line feed
 * @returns it without its line feed; undefined when it is longer, or the stream ends before
 */
export async function readLine(
  connection: Pick<Deno.Conn, "read">,
  most: number,
): Promise<string | undefined> {
  let line = "";
  const byte = new Uint8Array(1);
  while (await connection.read(byte) !== null) {
    if (byte[0] === 0x0a) return line;
    if (line.length === most) return undefined;
    line += String.fromCharCode(byte[0]!);
  }
  return undefined;
}

/** Writes all of it. */
export async function writeAll(
  connection: Pick<Deno.Conn, "write">,
  bytes: Uint8Array,
): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

/** Closes a connection that may have been closed meanwhile. */
export function closeQuietly(connection: Pick<Deno.Conn, "close">): void {
  try {
    connection.close();
  } catch {
    // it was
  }
}
