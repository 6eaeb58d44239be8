/**
 * Memory that can be taken back, as the VMM sees it.
 *
 * @module
 */
import type { DeviceKind, DeviceRequests } from "../kind.ts";
import { BalloonDevice, type BalloonRequest, PAGE } from "./device.ts";

/** Whether the VM has the device. */
export type BalloonConfig = boolean;

/** See {@linkcode BalloonDevice}. */
export const balloonKind: DeviceKind<BalloonConfig, null, BalloonRequest> = {
  name: "balloon",
  plan: (wanted) => wanted ? [null] : [],
  make: (host) => new BalloonDevice(host),
};

/**
 * Asks the guest to give memory up, or to take it back.
 *
 * @param devices of the VM
 * @param bytes how much the balloon shall hold in the end
 * @throws {CloudletError} `invalid-input` when the VM has no balloon, `conflict` when it ended
 */
export function setBalloon(devices: DeviceRequests, bytes: number): void {
  devices.request(balloonKind, { pages: Math.floor(bytes / PAGE) });
}
