/**
 * What a snapshot says of a device, checked: the file's checksum vouches for its bytes, and not for
 * what wrote them.
 *
 * @module
 */
import type { DeviceState } from "./device.ts";

/**
 * A whole number from 0 to `limit`, exclusive.
 *
 * @param state what a device has saved
 * @param name of the number in it
 * @throws {RangeError} when there is no such number
 */
export function savedNumber(state: DeviceState | undefined, name: string, limit: number): number {
  const value = (state as { readonly [name: string]: unknown } | null | undefined)?.[name];
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < limit) {
    return value + 0; // JSON has a zero below zero
  }
  throw new RangeError(`the snapshot has no ${name} that a device can have`);
}
