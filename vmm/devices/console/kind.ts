/**
 * The console, as the VMM sees it.
 *
 * @module
 */
import type { DeviceKind, DeviceRequests } from "../kind.ts";
import { ConsoleDevice, type ConsoleRequest, type ConsoleSize } from "./device.ts";

/** A console, which the guest sees as /dev/hvc0. */
export interface ConsoleConfig extends ConsoleSize {
  /** Called with what the guest writes to it. */
  readonly output?: (chunk: Uint8Array<ArrayBuffer>) => void;
}

/** See {@linkcode ConsoleDevice}. */
export const consoleKind: DeviceKind<
  ConsoleConfig,
  ConsoleSize,
  ConsoleRequest,
  Uint8Array<ArrayBuffer>
> = {
  name: "console",
  plan: ({ columns, rows }) => [{ columns, rows }],
  make: (host, size) => new ConsoleDevice(host, size),
  heard(output, config, answer) {
    const { length } = output; // before the caller may transfer it away
    try {
      config.output?.(output);
    } catch (error) {
      reportError(error); // the caller's defect must not stop the guest's console
    }
    answer({ kind: "taken", length });
  },
};

/**
 * Types at the console of a VM. What the guest has no room for is dropped, as a terminal does.
 *
 * @throws {CloudletError} `invalid-input` when the VM has no console, `conflict` when it ended
 */
export function typeAtConsole(devices: DeviceRequests, bytes: Uint8Array): void {
  devices.request(consoleKind, { kind: "input", bytes });
}

/**
 * Tells the guest that its terminal has another size now.
 *
 * @throws {CloudletError} `invalid-input` when the VM has no console, `conflict` when it ended
 */
export function resizeConsole(devices: DeviceRequests, size: ConsoleSize): void {
  devices.request(consoleKind, { kind: "resize", size });
}
