/**
 * What the rest of the VMM knows of a kind of device. A kind is a folder beside this file and a line
 * in registry.ts.
 *
 * @module
 */
import type { GuestMemory } from "../memory/guest_memory.ts";
import type { Device, DeviceHost } from "../virtio/device.ts";

/**
 * A kind of device.
 *
 * `Config` is what a caller says of it, `Spec` what the device thread makes one device from. `Request`
 * is what the main thread asks of a device, `Event` what a device tells it; `never` for none. All but
 * `Config` cross threads, so they are structured-clonable.
 */
export interface DeviceKind<Config, Spec, Request = never, Event = never> {
  /** As in {@linkcode Device.name} and in the registry, such as `blk`. */
  readonly name: string;
  /**
   * Main thread: which devices a configuration asks for.
   *
   * @param config what the caller says
   * @param memory of the VM; a device may add a window to it
   * @returns one element for each device
   * @throws {CloudletError} when the configuration does not do
   */
  plan(config: Config, memory: GuestMemory): readonly Spec[];
  /**
   * Device thread: makes a device.
   *
   * @param host what the device works with
   * @param spec an element of what {@linkcode DeviceKind.plan} returned
   * @throws {CloudletError} or SyscallError when it cannot be made
   */
  make(host: DeviceHost, spec: Spec): Device<Request>;
  /**
   * Main thread: takes what a device said with {@linkcode DeviceHost.post}.
   *
   * @param event what it said
   * @param config what the caller said of devices of this kind
   * @param answer sends the device a request
   */
  heard?(event: Event, config: Config, answer: (request: Request) => void): void;
}

/** A kind of which only the name is known; its methods take what belongs to that kind. */
export type AnyDeviceKind = DeviceKind<unknown, unknown, unknown, unknown>;

/** Main thread: reaches the devices of a VM. Each device's folder has functions that use it. */
export interface DeviceRequests {
  /**
   * Sends a request to the first device of a kind. While the VM is frozen for a snapshot it waits.
   *
   * @param kind which device
   * @param request what it shall do
   * @throws {CloudletError} `invalid-input` when the VM has no such device, `conflict` when it ended
   */
  request<Request>(
    kind: DeviceKind<never, unknown, Request, never>,
    request: NoInfer<Request>,
  ): void;
}
