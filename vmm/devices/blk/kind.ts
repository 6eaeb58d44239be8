/**
 * Disks, as the VMM sees them.
 *
 * @module
 */
import type { DeviceKind } from "../kind.ts";
import { BlkDevice, type BlkOptions } from "./device.ts";

/** The disks, which the guest sees as /dev/vda and so on. */
export type BlkConfig = readonly BlkOptions[];

/** See {@linkcode BlkDevice}. */
export const blkKind: DeviceKind<BlkConfig, BlkOptions> = {
  name: "blk",
  plan: (disks) => disks,
  make: (host, options) => new BlkDevice(host, options),
};
