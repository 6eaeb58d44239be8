/**
 * The network, as the VMM sees it. Every guest has the same addresses, on a link of its own: a clone
 * needs no others.
 *
 * @module
 */
import type { NetworkEvent } from "../../net/gate.ts";
import { KernelSockets } from "../../net/kernel_sockets.ts";
import { type NetworkSettings, NetworkStack } from "../../net/stack.ts";
import { ownAddresses } from "../../net/own_addresses.ts";
import { parseAddress } from "../../net/wire/ipv4.ts";
import type { DeviceKind, DeviceRequests } from "../kind.ts";
import { NetDevice, type NetRequest } from "./device.ts";

/** Hardware addresses with the bit that says that no vendor gave them (IEEE 802, clause 8.4). */
const GUEST_MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);
const GATEWAY_MAC = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x02);
/** The guest's address, and the gateway's, which has the resolver. */
export const GUEST_ADDRESS = "10.0.2.15";
/** See {@linkcode GUEST_ADDRESS}. */
export const GATEWAY_ADDRESS = "10.0.2.2";
/** Most bytes of an IPv4 packet: Ethernet's, which every guest expects. */
const MTU = 1500;

/** The network of a VM; it has the device when this is given. */
export interface NetConfig {
  /** What the guest may do; undefined: the link is down. */
  readonly settings?: NetworkSettings | undefined;
  /** Takes what a person may want to know. */
  readonly onEvent?: ((event: NetworkEvent) => void) | undefined;
}

/** What the device is made from. */
export interface NetSpec {
  /** As in {@linkcode NetConfig}. */
  readonly settings: NetworkSettings | undefined;
}

/** See {@linkcode NetDevice}. */
export const netKind: DeviceKind<NetConfig, NetSpec, NetRequest<NetworkSettings>, NetworkEvent> = {
  name: "net",
  plan: ({ settings }) => [{ settings }],
  make: (host, { settings }) =>
    new NetDevice(host, { mac: GUEST_MAC, mtu: MTU, up: settings !== undefined }, (link) => {
      const stack = new NetworkStack(link, {
        addresses: {
          guestMac: GUEST_MAC,
          gatewayMac: GATEWAY_MAC,
          guest: parseAddress(GUEST_ADDRESS)!,
          gateway: parseAddress(GATEWAY_ADDRESS)!,
        },
        sockets: new KernelSockets(host),
        clock: {
          now: () => performance.now(),
          after: (milliseconds, task) => host.after(milliseconds, task),
        },
        own: ownAddresses(parseAddress(GATEWAY_ADDRESS)!),
        onEvent: (event) => host.post(event),
      });
      if (settings !== undefined) stack.configure(settings);
      return stack;
    }),
  heard: (event, { onEvent }) => onEvent?.(event),
};

/**
 * Gives the guest a network, or takes it away.
 *
 * @param devices of the VM
 * @param settings what the guest may do; undefined pulls the plug
 * @throws {CloudletError} `invalid-input` when the VM has no network device, `conflict` when it ended
 */
export function setNetwork(devices: DeviceRequests, settings: NetworkSettings | undefined): void {
  const none = { policy: undefined, upstreams: [] };
  devices.request(netKind, { up: settings !== undefined, settings: settings ?? none });
}
