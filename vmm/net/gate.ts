/**
 * The policy at work: what the guest asks for is decided by the rules and by what it has looked up,
 * and each denial is told once for each destination.
 *
 * @module
 */
import {
  decide,
  decideAnswer,
  decideHost,
  decideName,
  decideServerName,
  type Decision,
  matchesName,
  type OwnAddresses,
  Pins,
  type Policy,
  type Target,
  type Transport,
} from "./policy.ts";
import { formatIpv4 } from "./wire/ipv4.ts";

/** Destinations whose denial is told. */
const MOST_TOLD = 256;

/** Something that a person may want to know. */
export interface NetworkEvent {
  /** What happened. */
  readonly kind: "denied";
  /** What was asked for: a connection, datagrams, a look-up, or a server's name in a connection. */
  readonly what: Transport | "name" | "server-name";
  /** Name that was asked for, or that the address was given for. */
  readonly name?: string | undefined;
  /** IPv4 address. */
  readonly address?: string | undefined;
  /** Port. */
  readonly port?: number | undefined;
  /** Rule that decided, as its author wrote it; absent when none matched. */
  readonly rule?: string | undefined;
  /** Whether the address is one that only a rule for just it reaches. */
  readonly floor?: boolean | undefined;
}

/** What the gate decides by, besides the policy. */
export interface GateOptions {
  /** Addresses of this host and the guest's network. */
  readonly own: OwnAddresses;
  /** Takes what happens. */
  readonly onEvent: (event: NetworkEvent) => void;
}

/** Connections that go by way of somebody on this host. */
export interface Interception {
  /** Names of the hosts whose TLS on port 443 it is; `all` is every TCP connection that is allowed. */
  readonly hosts: readonly Target[] | "all";
  /** TCP port of 127.0.0.1. */
  readonly port: number;
  /** Without white space: who dials begins with it, the address and the port, in a line. */
  readonly token: string;
}

/** What may be. */
export interface Verdict {
  /** Whether. */
  readonly allowed: boolean;
  /** Whether that is so by the name of the server, which its first bytes then have to confirm. */
  readonly byName: boolean;
  /** By way of whom; directly when absent. */
  readonly via?: Interception | undefined;
}

/** Where TLS is looked into. */
const HTTPS = 443;

const NO: Verdict = { allowed: false, byName: false };

/** See the module. */
export class Gate {
  /** Denials so far. */
  denied = 0;
  readonly #options: GateOptions;
  #policy: Policy | undefined;
  #interception: Interception | undefined;
  #pins = new Pins();
  readonly #told = new Set<string>();

  /** @param options what it decides by */
  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** Takes another policy, and forgets what the guest did under the one before; undefined: nothing may be. */
  use(policy: Policy | undefined, interception?: Interception): void {
    this.#policy = policy;
    this.#interception = interception;
    this.#pins = new Pins();
    this.#told.clear();
  }

  /** Whether there is a network at all. */
  get isOpen(): boolean {
    return this.#policy !== undefined;
  }

  /** Addresses that were looked up and are remembered. */
  get pins(): number {
    return this.#pins.size;
  }

  /** Whether the guest may reach an address. */
  reach(address: number, port: number, now: number, protocol: Transport = "tcp"): Verdict {
    const { own } = this.#options;
    const policy = this.#policy;
    if (policy === undefined) return NO;
    const names = this.#pins.namesOf(address, now);
    const decision = decide(policy, address, port, names, own, protocol);
    if (decision.allowed) {
      const via = this.#via(protocol, port, names);
      const looksInto = via !== undefined && via.hosts !== "all";
      const byName = looksInto || decision.rule?.target.kind === "name";
      return { allowed: true, byName, ...(via && { via }) };
    }
    this.#deny(decision, {
      what: protocol,
      name: names.at(-1),
      address: formatIpv4(address),
      port,
    });
    return NO;
  }

  #via(protocol: Transport, port: number, names: readonly string[]): Interception | undefined {
    if (protocol !== "tcp") return undefined;
    const hosts = this.#interception?.hosts ?? [];
    if (hosts === "all") return this.#interception;
    if (port !== HTTPS) return undefined;
    const isMeant = names.some((name) => hosts.some((host) => matchesName(host, name)));
    return isMeant ? this.#interception : undefined;
  }

  /** Whether the guest may reach a port of this host. */
  host(port: number, protocol: Transport = "tcp"): Verdict {
    const policy = this.#policy;
    if (policy === undefined) return NO;
    const decision = decideHost(policy, port, protocol);
    if (!decision.allowed) {
      this.#deny(decision, { what: protocol, name: "host", port });
      return NO;
    }
    const via = this.#via(protocol, port, []);
    return { allowed: true, byName: false, ...(via && { via }) };
  }

  /** Whether a name may be looked up. */
  lookUp(name: string): boolean {
    const policy = this.#policy;
    if (policy === undefined) return false;
    const decision = decideName(policy, name);
    if (!decision.allowed) this.#deny(decision, { what: "name", name });
    return decision.allowed;
  }

  /** Remembers what a look-up answered; returns the addresses that the guest may hear of. */
  answered(name: string, addresses: readonly number[], ttl: number, now: number): number[] {
    const { own } = this.#options;
    const policy = this.#policy;
    if (policy === undefined) return [];
    const told = addresses.filter((address) => decideAnswer(policy, address, own));
    this.#pins.add(name, told, ttl, now);
    const hidden = addresses.find((address) => !told.includes(address));
    if (hidden !== undefined) {
      const address = formatIpv4(hidden);
      this.#deny({ allowed: false, floor: true }, { what: "name", name, address });
    }
    return told;
  }

  /** Whether a connection may go on whose first bytes ask for a server; undefined for none. */
  serverName(address: number, port: number, name: string | undefined, now: number): boolean {
    const { own } = this.#options;
    const policy = this.#policy;
    if (policy === undefined) return false;
    const names = this.#pins.namesOf(address, now);
    const decision = name === undefined
      ? { allowed: false }
      : decideServerName(policy, address, port, name, names, own);
    if (decision.allowed) return true;
    this.#deny(decision, { what: "server-name", name, address: formatIpv4(address), port });
    return false;
  }

  #deny({ rule, floor }: Decision, about: Omit<NetworkEvent, "kind">): void {
    this.denied++;
    const { what, name, address, port } = about;
    const key = `${what} ${name ?? address} ${port}`;
    if (this.#told.has(key) || this.#told.size >= MOST_TOLD) return;
    this.#told.add(key);
    this.#options.onEvent({ kind: "denied", ...about, rule: rule?.text, floor });
  }
}
