/**
 * What a guest may reach: ordered rules of which the first that matches decides, and below them a
 * floor of addresses that only a rule for just those can cross.
 *
 * A rule for a name matches an address only while the guest's own look-up of that name has given it
 * ({@linkcode Pins}): names are what people mean, addresses what is dialled, and the resolver here is
 * the only one that may connect the two.
 *
 * @module
 */
import { addressKind } from "../../base/addresses.ts";
import { formatIpv4 } from "./wire/ipv4.ts";

/** What a rule is for. */
export type Target =
  /** A name, in lower case; with `subdomains`, all names that end in it, and not itself. */
  | { readonly kind: "name"; readonly name: string; readonly subdomains: boolean }
  /** Addresses: the first `bits` bits are those of the address. */
  | { readonly kind: "network"; readonly address: number; readonly bits: number }
  /** This host, as the guest's gateway: what listens on its 127.0.0.1. */
  | { readonly kind: "host" };

/** What runs over IPv4. */
export type Transport = "tcp" | "udp";

/** A rule. */
export interface Rule {
  /** What is done. */
  readonly action: "allow" | "deny";
  /** For what. */
  readonly target: Target;
  /** For which port; any when absent. */
  readonly port?: number | undefined;
  /** TCP when absent: QUIC past a rule for HTTPS would hide the server's name. */
  readonly protocol?: Transport | undefined;
  /** As its author wrote it. */
  readonly text: string;
}

/** Rules, and what holds where none matches. */
export interface Policy {
  /** In their order. */
  readonly rules: readonly Rule[];
  /** Without a rule. */
  readonly otherwise: "allow" | "deny";
  /**
   * What crosses the floor: rules for just its addresses and for this host, which is so when absent,
   * or nothing.
   */
  readonly floor?: "rules" | "always" | undefined;
}

/** What a policy says. */
export interface Decision {
  /** Whether it may be. */
  readonly allowed: boolean;
  /** The rule that decided; undefined for none, or for the floor. */
  readonly rule?: Rule | undefined;
  /** Whether the address is in the floor. */
  readonly floor?: boolean;
}

/**
 * Addresses below every rule, besides the kinds: of clouds' metadata, those that are in no special
 * range (Azure's WireServer, https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
 */
const METADATA: ReadonlySet<string> = new Set(["168.63.129.16"]);

/** Kinds of addresses that are no part of the internet. */
const FLOOR: ReadonlySet<string> = new Set([
  "unspecified",
  "reserved",
  "loopback",
  "private",
  "shared",
  "link-local",
  "multicast",
  "broadcast",
]);

/** Fewest bits of a network that crosses the floor: 10.0.0.0/8 is the largest range of one purpose. */
const FLOOR_BITS = 8;

/** Whether a target is addresses of one purpose, which its author has to know. */
function isLiteral(target: Target): target is Target & { kind: "network" } {
  return target.kind === "network" && target.bits >= FLOOR_BITS;
}

/** The addresses that are this host's own, and the guest's network: in the floor as well. */
export type OwnAddresses = (address: number) => boolean;

/** Whether an address is one that no rule for something larger reaches. */
export function isFloor(address: number, own: OwnAddresses): boolean {
  const text = formatIpv4(address);
  return FLOOR.has(addressKind(text)!) || METADATA.has(text) || own(address);
}

/** Whether a name is one of a rule. */
export function matchesName(target: Target, name: string): boolean {
  if (target.kind !== "name") return false;
  return target.subdomains ? name.endsWith(`.${target.name}`) : name === target.name;
}

function holds({ address, bits }: Target & { kind: "network" }, other: number): boolean {
  return bits === 0 || (address ^ other) >>> (32 - bits) === 0;
}

/**
 * Whether the guest may connect to an address.
 *
 * @param address as a 32-bit number
 * @param names that the guest got this address for
 */
export function decide(
  { rules, otherwise, floor: held }: Policy,
  address: number,
  port: number,
  names: readonly string[],
  own: OwnAddresses,
  protocol: Transport = "tcp",
): Decision {
  const floor = isFloor(address, own);
  for (const rule of rules) {
    const { target } = rule;
    if ((rule.protocol ?? "tcp") !== protocol) continue;
    if (rule.port !== undefined && rule.port !== port) continue;
    const matches = target.kind === "network"
      ? holds(target, address)
      : names.some((name) => matchesName(target, name));
    if (!matches) continue;
    if (rule.action === "deny") return { allowed: false, rule };
    const crosses = held !== "always" && isLiteral(target);
    if (!floor || crosses) return { allowed: true, rule };
  }
  if (floor) return { allowed: false, floor };
  return { allowed: otherwise === "allow" && protocol === "tcp" };
}

/**
 * Whether an address may be the answer to a look-up: one of the floor only where a rule reaches it,
 * since a name that leads there is an attack on what is behind the host (DNS rebinding).
 */
export function decideAnswer(
  { rules, floor }: Policy,
  address: number,
  own: OwnAddresses,
): boolean {
  return !isFloor(address, own) ||
    floor !== "always" &&
      rules.some(({ action, target }) =>
        action === "allow" && isLiteral(target) && holds(target, address)
      );
}

/** Whether the guest may connect to a port of this host, by way of its gateway. */
export function decideHost(
  { rules, floor }: Policy,
  port: number,
  protocol: Transport = "tcp",
): Decision {
  if (floor === "always") return { allowed: false, floor: true };
  const rule = rules.find((rule) =>
    rule.target.kind === "host" && (rule.port === undefined || rule.port === port) &&
    (rule.protocol ?? "tcp") === protocol
  );
  return { allowed: rule?.action === "allow", rule };
}

/**
 * Whether a name may be looked up: only when a connection to it could be allowed, since a look-up is
 * a message to whoever serves the name. Rules for addresses allow no name.
 */
export function decideName({ rules, otherwise }: Policy, name: string): Decision {
  for (const rule of rules) {
    if (!matchesName(rule.target, name)) continue;
    // One that denies a port leaves the others.
    if (rule.action === "deny" && rule.port !== undefined) continue;
    return { allowed: rule.action === "allow", rule };
  }
  return { allowed: otherwise === "allow" };
}

/**
 * Whether a connection that was allowed may go on now that its first bytes ask for a server by name
 * (SNI, or HTTP's Host): behind one address there may be many.
 *
 * @param name that was asked for
 * @param names that the guest got this address for
 */
export function decideServerName(
  policy: Policy,
  address: number,
  port: number,
  name: string,
  names: readonly string[],
  own: OwnAddresses,
): Decision {
  // One that was never looked up here cannot be believed to be at this address.
  return decide(policy, address, port, names.includes(name) ? [name] : [], own);
}

/** Most addresses that are remembered, and names of each. */
const MOST_ADDRESSES = 4096;
const MOST_NAMES = 64;
/** Milliseconds for which an answer holds at least: programs keep addresses longer than they may. */
const LEAST_LIFETIME = 300_000;

/** Which names the guest was given an address for. */
export class Pins {
  readonly #names = new Map<number, Map<string, number>>();

  /** Addresses that are remembered. */
  get size(): number {
    return this.#names.size;
  }

  /**
   * Remembers an answer.
   *
   * @param ttl in seconds
   * @param now in milliseconds
   */
  add(name: string, addresses: readonly number[], ttl: number, now: number): void {
    const until = now + Math.max(LEAST_LIFETIME, ttl * 1000);
    for (const address of addresses) {
      const names = this.#names.get(address) ?? new Map<string, number>();
      this.#names.delete(address); // the newest are last
      this.#names.set(address, names);
      names.delete(name);
      names.set(name, until);
      if (names.size > MOST_NAMES) names.delete(names.keys().next().value!);
    }
    while (this.#names.size > MOST_ADDRESSES) {
      this.#names.delete(this.#names.keys().next().value!);
    }
  }

  /** The names that an address was given for, and that still hold. */
  namesOf(address: number, now: number): string[] {
    const names = this.#names.get(address);
    if (names === undefined) return [];
    for (const [name, until] of names) {
      if (until <= now) names.delete(name);
    }
    if (names.size === 0) this.#names.delete(address);
    return [...names.keys()];
  }
}
