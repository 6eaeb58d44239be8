/**
 * What a snapshot says of a guest's connections, checked.
 *
 * @module
 */
import type { DeviceState } from "../virtio/device.ts";
import { savedNumber } from "../virtio/saved.ts";

/** Connections of a guest at one time. */
export const MOST_CONNECTIONS = 1024;

/** A connection of a snapshot's guest, of which nothing but its numbers is left. */
export interface LostConnection {
  /** The guest's port. */
  readonly guestPort: number;
  /** The server's address and port. */
  readonly address: number;
  readonly port: number;
  /** What the guest expects next, and what it was told that is expected of it. */
  readonly sequence: number;
  readonly acknowledgment: number;
}

/**
 * The connections that were open.
 *
 * @param state what was saved
 * @throws {RangeError} when it is nothing that can have been saved
 */
export function lostConnections(state: DeviceState): LostConnection[] {
  if (!Array.isArray(state) || state.length > MOST_CONNECTIONS) {
    throw new RangeError("the snapshot has no list of connections that a guest can have");
  }
  return state.map((entry: DeviceState) => ({
    guestPort: savedNumber(entry, "guestPort", 2 ** 16),
    address: savedNumber(entry, "address", 2 ** 32),
    port: savedNumber(entry, "port", 2 ** 16),
    sequence: savedNumber(entry, "sequence", 2 ** 32),
    acknowledgment: savedNumber(entry, "acknowledgment", 2 ** 32),
  }));
}
