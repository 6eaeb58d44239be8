/**
 * The network of a machine, as plain data: what its programs may reach, and what reaches them.
 *
 * @module
 */
import type { NetworkEvent } from "../vmm/net/gate.ts";
import type { Policy, Target } from "../vmm/net/policy.ts";

export type { NetworkEvent } from "../vmm/net/gate.ts";
export { isFloor, matchesName, type Policy, type Rule, type Target } from "../vmm/net/policy.ts";
export { parseRule, policyOf } from "../vmm/net/rules.ts";
export { formatIpv4 } from "../vmm/net/wire/ipv4.ts";

/** A port of the host that leads to a port of the guest's 127.0.0.1. */
export interface PublishedPort {
  /** IPv4 address of the host to listen on. */
  readonly address: string;
  /** TCP port of the host; 0 for a free one. */
  readonly port: number;
  /** TCP port of the guest. */
  readonly guestPort: number;
}

/** A value that hosts get in the place of what programs have. */
export interface HostSecret {
  /** What programs have: letters and digits, of which there is nothing like elsewhere. */
  readonly placeholder: string;
  /** What hosts get. */
  readonly value: string;
  /** Names of the hosts. */
  readonly hosts: readonly Target[];
}

/** What is asked for. */
export interface MachineNetwork {
  /** What programs may reach; undefined for nothing: the guest's card has its cable pulled. */
  readonly policy: Policy | undefined;
  /** What leads into the guest. */
  readonly publish: readonly PublishedPort[];
  /** Bytes a second, each way; no limit when absent. */
  readonly bandwidth?: number | undefined;
  /** Whether what is fetched is kept for others who ask for it; it is not when absent. */
  readonly downloads?: boolean | undefined;
  /** What programs have placeholders of; none when absent. */
  readonly secrets?: readonly HostSecret[] | undefined;
}

/** Something about a machine's network that a person may want to know. */
export type MachineNetworkEvent =
  | NetworkEvent
  /** The host listens. */
  | { readonly kind: "published" } & PublishedPort
  /** A client was reset, since nobody listened in the guest; once for each port. */
  | { readonly kind: "unanswered" } & PublishedPort
  /** A secret could not be put in. */
  | { readonly kind: "secret"; readonly message: string };
