/**
 * The network, as the VMM sees it. Every guest may have the same addresses: each is on a link of its
 * own.
 *
 * @module
 */
import type { NetworkEvent } from "../../net/gate.ts";
import type { NetworkSettings } from "../../net/stack.ts";
import type { DeviceKind, DeviceRequests } from "../kind.ts";
import { NetDevice, type NetRequest } from "./device.ts";
import { LazyStack } from "./lazy_stack.ts";

/** Hardware addresses with the bit that says that no vendor gave them (IEEE 802, clause 8.4). */
const guestMac = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x56);
const gatewayMac = Uint8Array.of(0x52, 0x54, 0x00, 0x12, 0x34, 0x02);
/** Most bytes of an IPv4 packet: Ethernet's, which every guest expects. */
const MTU = 1500;

/** The network of a VM; it has the device when this is given. Its link is down at first. */
export interface NetConfig {
  /** The guest's IPv4 address. */
  readonly guest: string;
  /** Its gateway, which has the resolver; both are in one network of 256 addresses. */
  readonly gateway: string;
  /** Takes what a person may want to know. */
  readonly onEvent?: ((event: NetworkEvent) => void) | undefined;
}

/** What the device is made from. */
export type NetSpec = Pick<NetConfig, "guest" | "gateway">;

/** See {@linkcode NetDevice}. */
export const netKind: DeviceKind<NetConfig, NetSpec, NetRequest<NetworkSettings>, NetworkEvent> = {
  name: "net",
  plan: ({ guest, gateway }) => [{ guest, gateway }],
  make: (host, ends) =>
    new NetDevice(
      host,
      { mac: guestMac, mtu: MTU },
      (link) => new LazyStack(link, host, { guestMac, gatewayMac, ...ends }),
    ),
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
  devices.request(netKind, { up: settings !== undefined, settings });
}
