/**
 * What a snapshot says of a guest's connections, checked.
 *
 * @module
 */
import type { DeviceState } from "../virtio/device.ts";
import { savedNumber } from "../virtio/saved.ts";
import { type LostConnection, MOST_CONNECTIONS } from "./tcp_table.ts";

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
