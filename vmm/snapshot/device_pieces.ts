/**
 * The devices of a VM as pieces of a state file and back.
 *
 * @module
 */
import type { SlotSnapshot } from "../virtio/slot.ts";
import { jsonPiece, piece, type Pieces } from "./format.ts";

/** Adds the devices to the pieces, in the order of their windows. */
export function addDevices(
  pieces: Map<string, Uint8Array<ArrayBuffer>>,
  devices: readonly SlotSnapshot[],
): void {
  devices.forEach(({ transport, ...rest }, index) => {
    pieces.set(`device${index}`, new TextEncoder().encode(JSON.stringify(rest)));
    pieces.set(`device${index}.registers`, transport.bytes as Uint8Array<ArrayBuffer>);
  });
}

/**
 * The devices that the pieces tell of; what they say is checked by those who take them over.
 *
 * @throws {CloudletError} `untrusted` when a piece is missing or no JSON
 */
export function devicesOf(pieces: Pieces): SlotSnapshot[] {
  const devices: SlotSnapshot[] = [];
  for (let index = 0; pieces.has(`device${index}`); index++) {
    const rest = jsonPiece(pieces, `device${index}`) as Omit<SlotSnapshot, "transport">;
    devices.push({ ...rest, transport: { bytes: piece(pieces, `device${index}.registers`) } });
  }
  return devices;
}
