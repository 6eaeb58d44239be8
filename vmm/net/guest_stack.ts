/**
 * The stack of a guest on this host: with the kernel's sockets, the system's clock, and this host's
 * addresses in the floor.
 *
 * @module
 */
import type { DeviceHost } from "../virtio/device.ts";
import { captured } from "./capture.ts";
import { KernelSockets } from "./kernel_sockets.ts";
import { limited } from "./limited.ts";
import type { Link, NetworkPort, Plug } from "./link.ts";
import { ownAddresses } from "./own_addresses.ts";
import { type NetworkSettings, NetworkStack } from "./stack.ts";
import { parseAddress } from "./wire/ipv4.ts";

/** The link's two ends. */
export interface LinkEnds {
  /** The guest's hardware address, six bytes. */
  readonly guestMac: Uint8Array;
  /** The gateway's. */
  readonly gatewayMac: Uint8Array;
  /** The guest's IPv4 address. */
  readonly guest: string;
  /** The gateway's. */
  readonly gateway: string;
}

/**
 * Makes one.
 *
 * @param link to the guest
 * @param host of its network device
 * @param ends of the link
 * @param capture path of a file that gets all frames; none when absent
 */
export function guestStack(
  link: Link,
  host: DeviceHost,
  ends: LinkEnds,
  capture?: string,
): NetworkPort<NetworkSettings> {
  const gateway = parseAddress(ends.gateway)!;
  const clock = {
    now: () => performance.now(),
    after: (milliseconds: number, task: () => void) => host.after(milliseconds, task),
  };
  const plug: Plug<NetworkSettings> = (link) =>
    new NetworkStack(link, {
      addresses: { ...ends, guest: parseAddress(ends.guest)!, gateway },
      sockets: new KernelSockets(host),
      clock,
      own: ownAddresses(gateway),
      onEvent: (event) => host.post(event),
    });
  const written = capture === undefined
    ? plug
    : captured(plug, capture, (message) => host.warn(message));
  return limited(written, clock)(link);
}
