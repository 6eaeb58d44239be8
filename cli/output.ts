/**
 * The one place through which commands write to standard output and standard error.
 *
 * A reader that has gone ends the command with {@linkcode OUTPUT_CLOSED}, and nothing is said: Deno
 * ignores SIGPIPE, which would have ended another program. Output that cannot be written for another
 * reason, such as a full disk, is an error. What only accompanies the output, such as progress, may
 * be lost.
 *
 * @module
 */
import { CloudletError, messageOf } from "../base/errors.ts";
import { writeAllSync } from "../base/files.ts";

/** The exit code as a shell reports a program that SIGPIPE ended. */
export const OUTPUT_CLOSED = 128 + 13;

/** The reader of the output has gone. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

const encoder = new TextEncoder();

function bytesOf(data: Uint8Array | string): Uint8Array {
  return typeof data === "string" ? encoder.encode(data) : data;
}

/** The error that a failed write is. */
export function outputError(thrown: unknown): OutputClosed | CloudletError {
  if (thrown instanceof OutputClosed || thrown instanceof CloudletError) return thrown;
  if (thrown instanceof Deno.errors.BrokenPipe) return new OutputClosed();
  const reason = messageOf(thrown).replace(/ \(os error \d+\)$/, "");
  return new CloudletError(
    `Cannot write the output: ${reason.charAt(0).toLowerCase()}${reason.slice(1)}`,
    { code: "host", cause: thrown },
  );
}

/**
 * Writes all bytes, at the pace of the reader.
 *
 * @param to standard output, or standard error for what a program wrote there
 * @throws {OutputClosed} when the reader has gone
 * @throws {CloudletError} `host` when it cannot be written
 */
export async function write(to: "stdout" | "stderr", data: Uint8Array | string): Promise<void> {
  try {
    for (let rest = bytesOf(data); rest.length > 0;) {
      rest = rest.subarray(await Deno[to].write(rest));
    }
  } catch (error) {
    throw outputError(error);
  }
}

/** The same while nothing else in this process goes on; standard output only. */
export function writeSync(data: Uint8Array | string): void {
  try {
    writeAllSync(Deno.stdout, bytesOf(data));
  } catch (error) {
    throw outputError(error);
  }
}

/** Writes a line to standard output; fails as {@linkcode write} does. */
export function writeLine(line: string): void {
  writeSync(`${line}\n`);
}

/** Says something on standard error beside the output; it is lost where it cannot be written. */
export function say(line: string): void {
  try {
    writeAllSync(Deno.stderr, encoder.encode(`${line}\n`));
  } catch {
    // it only accompanies the output
  }
}
