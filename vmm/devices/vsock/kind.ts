/**
 * The socket between host and guest, as the VMM sees it.
 *
 * @module
 */
import type { DeviceKind } from "../kind.ts";
import { VsockDevice, type VsockOptions } from "./device.ts";

/** See {@linkcode VsockDevice}. */
export const vsockKind: DeviceKind<VsockOptions, VsockOptions> = {
  name: "vsock",
  plan: (options) => [options],
  make: (host, options) => new VsockDevice(host, options),
};
