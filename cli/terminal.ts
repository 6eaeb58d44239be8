/**
 * Writing to the terminal, or to whoever reads instead of one.
 *
 * @module
 */
import type { RunEvent } from "../api/run.ts";

/** Whoever reads our output has gone. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

const encoder = new TextEncoder();

/**
 * Writes all bytes, at the pace of the reader.
 *
 * @throws {BrokenPipe} when there is no reader any more
 */
export async function writeAll(
  stream: { write(bytes: Uint8Array): Promise<number> },
  data: Uint8Array | string,
): Promise<void> {
  let rest = typeof data === "string" ? encoder.encode(data) : data;
  try {
    while (rest.length > 0) rest = rest.subarray(await stream.write(rest));
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) throw new BrokenPipe();
    throw error;
  }
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function dataFields(data: Uint8Array): { text: string } | { base64: string } {
  try {
    return { text: strictUtf8.decode(data) };
  } catch {
    return { base64: data.toBase64() };
  }
}

/** An event as one line of JSON; output is `text`, or `base64` where it is not UTF-8. */
export function eventLine(event: RunEvent): string {
  const plain = event.type === "stdout" || event.type === "stderr"
    ? { type: event.type, ...dataFields(event.data) }
    : event.type === "exit"
    ? { type: event.type, ...event.result }
    : event;
  return JSON.stringify(plain) + "\n";
}
