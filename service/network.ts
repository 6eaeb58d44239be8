/**
 * The network that a request asks for, checked against what the service allows; and what happens in
 * it, as responses.
 *
 * @module
 */
import { ACCESS, type AccessName } from "../workload/network_access.ts";
import { create } from "@bufbuild/protobuf";
import { CloudletError } from "../base/errors.ts";
import { ipv4Bytes, isLoopback } from "../base/addresses.ts";
import {
  type NetworkEvent,
  NetworkEvent_Asked as Asked,
  NetworkEvent_Kind as EventKind,
  NetworkEventSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import {
  type Network,
  NetworkRule_Action as Action,
  type PublishedPort,
} from "../proto/gen/vmmorchestrator/vmm_pb.ts";
import {
  isFloor,
  type MachineNetwork,
  type MachineNetworkEvent,
  parseRule,
  type Policy,
  policyOf,
  type Rule,
} from "../node/network.ts";
import { type NamedSecret, rulesOf, secretsOf } from "./secrets.ts";

/** What the programs of a service may have. */
export interface NetworkLimits {
  /** The most that a request may ask for. */
  readonly access: AccessName;
  /** Whether rules may reach private addresses and what listens on the service's own host. */
  readonly floor: Policy["floor"];
  /** Most bytes a second of one program, each way; no limit when absent. */
  readonly bandwidth?: number | undefined;
}

/** A network, with the names of its secrets. */
export type RunNetworkRequest = Omit<MachineNetwork, "secrets"> & {
  readonly secrets?: readonly NamedSecret[] | undefined;
};

/** What a caller's own programs may have on its own host. */
export const OWN_NETWORK: NetworkLimits = { access: "public", floor: "rules" };

function refuse(what: string, remedy: string, code: "invalid-input" | "denied" = "invalid-input") {
  return new CloudletError(`Cannot give the program a network: ${what}`, { code, remedy });
}

/**
 * The network that is asked for.
 *
 * @param asked undefined for none
 * @param limits of the service; nothing is allowed when absent
 * @throws {CloudletError} `invalid-input` for rules and ports that make no sense, `denied` for more
 *   than the service allows
 */
export function networkOf(
  asked: Network | undefined,
  { access: most, floor, bandwidth }: NetworkLimits = { access: "none", floor: "always" },
): RunNetworkRequest | undefined {
  if (asked === undefined) return undefined;
  const access = ACCESS[asked.access];
  if (access === undefined) throw refuse(`there is no access number ${asked.access}`, "use 0 to 2");
  const { rules: written, publish, secrets: secret } = asked;
  if (access === "none" && written.length + publish.length + secret.length === 0) return undefined;
  if (most === "none") {
    throw refuse("this service has none to give", "ask its operator for serve --network", "denied");
  }
  if (ACCESS.indexOf(access) > ACCESS.indexOf(most)) {
    const remedy = "list what it needs, or ask the operator for serve --network public";
    throw refuse(`the service allows ${most} access, not ${access}`, remedy, "denied");
  }
  if (access === "none" && written.length + secret.length > 0) {
    throw refuse(
      "its access is none, and there are rules or secrets",
      "ask for listed access, or for neither",
    );
  }
  const rules = written.map(({ action, target }) => {
    if (action !== Action.ALLOW && action !== Action.DENY) {
      throw refuse(`there is no action number ${action}`, "use 0 or 1");
    }
    return parseRule(target, action === Action.ALLOW ? "allow" : "deny");
  });
  if (floor === "always") rules.forEach(checkFloor);
  const secrets = secretsOf(secret);
  return {
    policy: access === "none"
      ? undefined
      : policyOf([...rules, ...rulesOf(secrets)], access === "public" ? "allow" : "deny", floor),
    publish: publishedOf(publish, floor === "always"),
    ...(secrets.length > 0 && { secrets }),
    ...bandwidthOf(asked.bandwidthKbit, bandwidth),
  };
}

/** As much as is asked for, up to what the service allows. */
function bandwidthOf(kbit: number, most = Infinity): Pick<MachineNetwork, "bandwidth"> {
  const bandwidth = Math.min(kbit === 0 ? Infinity : kbit * 1000 / 8, most);
  return bandwidth === Infinity ? {} : { bandwidth };
}

/** What is certain to be denied in each connection is refused at once. */
function checkFloor({ action, target, text }: Rule): void {
  if (action === "deny" || target.kind === "name") return;
  if (target.kind === "network" && !isFloor(target.address, () => false)) return;
  throw refuse(
    `the service does not let programs reach ${JSON.stringify(text)}`,
    "ask its operator for serve --network-private",
    "denied",
  );
}

/** @param onLoopback whether this host's other addresses are not the caller's to listen on */
function publishedOf(
  ports: readonly PublishedPort[],
  onLoopback: boolean,
): MachineNetwork["publish"] {
  const taken = new Set<string>();
  return ports.map(({ address: written, port, guestPort }) => {
    const address = written || "127.0.0.1";
    if (ipv4Bytes(address) === undefined) {
      throw refuse(`${JSON.stringify(address)} is no IPv4 address`, "publish on 127.0.0.1");
    }
    if (onLoopback && !isLoopback(address)) {
      throw refuse(
        `the service publishes no port on ${address}`,
        "publish on 127.0.0.1, or ask its operator for serve --network-private",
        "denied",
      );
    }
    if (port > 65535 || guestPort < 1 || guestPort > 65535) {
      throw refuse(`the ports ${port} and ${guestPort} cannot be joined`, "use 1 to 65535");
    }
    const place = `${address}:${port}`;
    if (port !== 0 && taken.has(place)) {
      throw refuse(`${place} is published twice`, "use each port of the host once");
    }
    taken.add(place);
    return { address, port, guestPort };
  });
}

const ASKED = {
  "tcp": Asked.TCP,
  "udp": Asked.UDP,
  "name": Asked.NAME,
  "server-name": Asked.SERVER_NAME,
} as const;

/** What happened, as a response has it. */
export function networkEvent(event: MachineNetworkEvent): NetworkEvent {
  if (event.kind === "denied") {
    const { what, name = "", address = "", port = 0, rule = "", floor = false } = event;
    const asked = ASKED[what];
    return create(NetworkEventSchema, {
      ...{ kind: EventKind.DENIED, asked, name, address, port, rule, floor },
    });
  }
  if (event.kind === "secret") {
    return create(NetworkEventSchema, { kind: EventKind.SECRET, message: event.message });
  }
  const { kind, address, port, guestPort } = event;
  return create(NetworkEventSchema, {
    kind: kind === "published" ? EventKind.PUBLISHED : EventKind.UNANSWERED,
    ...{ address, port, guestPort },
  });
}
