/**
 * A program's network between what people write and what the wire has.
 *
 * @module
 */
import { ACCESS } from "../workload/network_access.ts";
import { CloudletError } from "../base/errors.ts";
import {
  type NetworkEvent,
  NetworkEvent_Asked as Asked,
  NetworkEvent_Kind as Kind,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  Network_Access as Access,
  NetworkRule_Action as Action,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";

/** What a program may reach, and what reaches it. */
export interface NetworkOptions {
  /**
   * What holds where no rule matches: `none` for no network, `listed` for nothing else, `public` for the
   * internet without private addresses and this host's. When absent, `listed` where something is
   * allowed, otherwise `none`.
   */
  readonly access?: "none" | "listed" | "public";
  /**
   * What may be reached: `HOST[:PORT][/udp]`. HOST is a name, `*.NAME`, an IPv4 address,
   * `ADDRESS/BITS`, or `host` for the 127.0.0.1 of the machine that runs the guest.
   */
  readonly allow?: readonly string[];
  /** What may not, in the same words; it wins over what is allowed. */
  readonly deny?: readonly string[];
  /**
   * Ports of the host that lead to ports of the guest's 127.0.0.1: `[ADDRESS:]PORT:GUEST_PORT`, or
   * `GUEST_PORT` for a free port. They listen on 127.0.0.1 unless an address is written.
   */
  readonly publish?: readonly string[];
  /** How much it may send and get a second, such as `10Mbit`; no limit when absent. */
  readonly bandwidth?: string;
  /**
   * Values that the program never has, by the name of the variable that has a placeholder: it is replaced
   * in requests to the hosts named, over TLS on port 443, which may be reached there without a rule.
   */
  readonly secrets?: Readonly<Record<string, SecretOptions>>;
}

/**
 * What installing a project's packages may reach: the internet, or these hosts, as in
 * {@linkcode NetworkOptions.allow}; or rules in full, without ports.
 */
export type BuildNetworkOptions =
  | "none"
  | "public"
  | readonly string[]
  | Omit<NetworkOptions, "publish">;

/** A value, and the hosts that get it. */
export interface SecretOptions {
  /** The value. */
  readonly value: string;
  /** Names of hosts, or `*.NAME`. */
  readonly hosts: readonly string[];
}

/** Something about a run's network that a person may want to know. */
export type NetworkReport =
  | {
    /** What happened: the program was not let through, once for each destination. */
    readonly kind: "denied";
    /** A connection, datagrams, a look-up, or a server's name in a connection. */
    readonly asked: "tcp" | "udp" | "name" | "server-name";
    /** Name that was asked for, or that the address was given for. */
    readonly name?: string;
    /** IPv4 address. */
    readonly address?: string;
    /** Port. */
    readonly port?: number;
    /** The rule that denied it; absent when none matched. */
    readonly rule?: string;
    /** Whether only a rule for just this address allows it. */
    readonly floor: boolean;
    /** Whether it was not the program, but what installs its packages. */
    readonly building?: boolean;
  }
  | {
    /** The host listens, or has reset a client because nothing listens in the guest. */
    readonly kind: "published" | "unanswered";
    /** Where the host listens. */
    readonly address: string;
    /** Its port. */
    readonly port: number;
    /** The guest's port. */
    readonly guestPort: number;
  }
  | {
    /** A secret could not be put in. */
    readonly kind: "secret";
    /** Why. */
    readonly message: string;
  };

/**
 * Reads `[ADDRESS:]PORT:GUEST_PORT` or `GUEST_PORT`.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parsePublished(
  text: string,
): { readonly address: string; readonly port: number; readonly guestPort: number } {
  const match = /^(?:(?:(\d+\.\d+\.\d+\.\d+):)?(\d{1,5}):)?(\d{1,5})$/.exec(text);
  const [address = "", port, guestPort] = [match?.[1], Number(match?.[2] ?? 0), Number(match?.[3])];
  if (match !== null && port < 65536 && guestPort > 0 && guestPort < 65536) {
    return { address, port, guestPort };
  }
  throw new CloudletError(`Cannot publish ${JSON.stringify(text)}`, {
    code: "invalid-input",
    remedy: "write PORT:GUEST_PORT, such as 8080:80, with an IPv4 address before it if need be",
  });
}

const KBIT: Readonly<Record<string, number>> = { kbit: 1, mbit: 1000, gbit: 1_000_000 };
/** uint32 */
const MOST_KBIT = 2 ** 32 - 1;

/**
 * Reads `NUMBERkbit`, `NUMBERMbit` or `NUMBERGbit`, a second, as tc(8) does.
 *
 * @returns thousands of bits a second
 * @throws {CloudletError} `invalid-input`
 */
export function parseBandwidth(text: string): number {
  const [, digits = "", unit = ""] = /^(\d+(?:\.\d+)?)\s*([kmg]bit)$/i.exec(text) ?? [];
  const kbit = Math.round(Number(digits) * (KBIT[unit.toLowerCase()] ?? NaN));
  if (kbit >= 1 && kbit <= MOST_KBIT) return kbit;
  throw new CloudletError(`Cannot read ${JSON.stringify(text)} as a bandwidth`, {
    code: "invalid-input",
    remedy: "write it as 500kbit, 10Mbit or 1Gbit",
  });
}

/**
 * The network as the wire has it.
 *
 * @throws {CloudletError} `invalid-input` for a port or a bandwidth that is none; rules are checked by the
 *   service
 */
export function toNetwork(
  { access, allow = [], deny = [], publish = [], bandwidth, secrets = {} }: NetworkOptions,
) {
  const number: Access = access === undefined
    ? allow.length + Object.keys(secrets).length > 0 ? Access.LISTED : Access.NONE
    : ACCESS.indexOf(access);
  if (number < 0) {
    throw new CloudletError(`Cannot give the program the network ${JSON.stringify(access)}`, {
      code: "invalid-input",
      remedy: `use one of ${ACCESS.join(", ")}`,
    });
  }
  return {
    access: number,
    rules: [
      ...deny.map((target) => ({ action: Action.DENY, target })),
      ...allow.map((target) => ({ action: Action.ALLOW, target })),
    ],
    publish: publish.map(parsePublished),
    bandwidthKbit: bandwidth === undefined ? 0 : parseBandwidth(bandwidth),
    secrets: Object.entries(secrets).map(([name, { value, hosts }]) => ({
      ...{ name, value, hosts: [...hosts] },
    })),
  };
}

/**
 * The network of building as the wire has it; as {@linkcode toNetwork}.
 *
 * @param more secrets besides those that it has itself, which win
 */
export function toBuildNetwork(
  network: BuildNetworkOptions,
  more: NonNullable<NetworkOptions["secrets"]> = {},
) {
  if (network === "none") return toNetwork({ access: network });
  const rules: NetworkOptions = typeof network === "string"
    ? { access: network }
    : Array.isArray(network)
    ? { allow: network }
    : network as NetworkOptions;
  if (rules.access === "none") return toNetwork(rules);
  return toNetwork({ ...rules, secrets: { ...more, ...rules.secrets } });
}

const ASKED: Readonly<Record<Asked, "tcp" | "udp" | "name" | "server-name">> = {
  [Asked.TCP]: "tcp",
  [Asked.UDP]: "udp",
  [Asked.NAME]: "name",
  [Asked.SERVER_NAME]: "server-name",
};

/** What happened, as people read it. */
export function toReport(event: NetworkEvent): NetworkReport {
  const { kind, name, address, port, rule, floor, guestPort, building } = event;
  if (kind === Kind.SECRET) return { kind: "secret", message: event.message };
  if (kind !== Kind.DENIED) {
    return { kind: kind === Kind.PUBLISHED ? "published" : "unanswered", address, port, guestPort };
  }
  return {
    kind: "denied",
    asked: ASKED[event.asked] ?? "tcp",
    ...(name !== "" && { name }),
    ...(address !== "" && { address }),
    ...(port !== 0 && { port }),
    ...(rule !== "" && { rule }),
    floor,
    ...(building && { building }),
  };
}
