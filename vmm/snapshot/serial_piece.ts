/**
 * The serial port as a piece of a state file and back.
 *
 * @module
 */
import { Serial } from "../legacy/serial.ts";
import { piece, type Pieces, refuse } from "./format.ts";

const NAME = "serial";

/** Adds the port to the pieces; no thread drives it. */
export function addSerial(
  pieces: Map<string, Uint8Array<ArrayBuffer>>,
  state: SharedArrayBuffer,
): void {
  pieces.set(NAME, Serial.saveState(state));
}

/**
 * Puts the port of a snapshot back.
 *
 * @throws {CloudletError} `untrusted` when no port has such a state
 */
export function restoreSerial(state: SharedArrayBuffer, pieces: Pieces): void {
  try {
    Serial.restoreState(state, piece(pieces, NAME));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw refuse(`of its serial port, ${error.message}`, error);
  }
}
