/**
 * Entropy from the host, as the VMM sees it.
 *
 * @module
 */
import type { DeviceKind } from "../kind.ts";
import { RngDevice } from "./device.ts";

/** Whether the VM has the device. */
export type RngConfig = boolean;

/** See {@linkcode RngDevice}. */
export const rngKind: DeviceKind<RngConfig, null> = {
  name: "rng",
  plan: (wanted) => wanted ? [null] : [],
  make: (host) => new RngDevice(host),
};
