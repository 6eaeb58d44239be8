/**
 * Rules as people write them: `HOST[:PORT][/udp]`.
 *
 * HOST is a name, `*.NAME` for all names below it, an IPv4 address, `ADDRESS/BITS`, or `host` for the
 * 127.0.0.1 of the machine that the guest runs on.
 *
 * @module
 */
import { CloudletError } from "../../base/errors.ts";
import type { Policy, Rule, Target } from "./policy.ts";
import { formatIpv4, parseAddress } from "./wire/ipv4.ts";

/** Most characters of a rule: a name has at most 253 (RFC 1035 section 2.3.4). */
const MOST_TEXT = 300;
/** RFC 1035 section 2.3.1, with the underscores of service names (RFC 8552). */
const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const MOST_NAME = 253;

const GRAMMAR =
  "write HOST, HOST:PORT or HOST:PORT/udp; HOST is a name, *.NAME, an IPv4 address, " +
  "ADDRESS/BITS, or host for this machine";

function refuse(text: string, why: string, remedy = GRAMMAR): CloudletError {
  return new CloudletError(`Cannot use the network rule ${JSON.stringify(text)}: ${why}`, {
    code: "invalid-input",
    remedy,
  });
}

/**
 * A name in the form in which resolvers are asked: lower case, international names in punycode.
 *
 * @returns undefined for what is no name
 */
function canonicalName(text: string): string | undefined {
  if (!/^[^\s/:@?#\\[\]%]+$/.test(text)) return undefined;
  const isAscii = /^[\x20-\x7e]*$/.test(text);
  const ascii = isAscii ? text.toLowerCase() : URL.parse(`http://${text}/`)?.hostname;
  const name = ascii?.replace(/\.$/, "");
  if (name === undefined || name.length > MOST_NAME) return undefined;
  const labels = name.split(".");
  // A last label of digits is a part of an address, not a name (RFC 1123 section 2.1).
  return labels.every((label) => LABEL.test(label)) && !/^\d+$|^0x/.test(labels.at(-1)!)
    ? name
    : undefined;
}

function targetOf(text: string, host: string): Target {
  if (host === "host") return { kind: "host" };
  const network = /^(\d+\.\d+\.\d+\.\d+)(?:\/(\d{1,2}))?$/.exec(host);
  if (network !== null) {
    const address = parseAddress(network[1]!);
    const bits = Number(network[2] ?? 32);
    if (address === undefined || bits > 32) throw refuse(text, "it is no IPv4 address or network");
    const rest = bits === 0 ? address : bits === 32 ? 0 : address << bits >>> bits;
    if (rest !== 0) {
      const start = formatIpv4((address ^ rest) >>> 0);
      throw refuse(text, `the network begins at ${start}`, `write ${start}/${bits}`);
    }
    return { kind: "network", address, bits };
  }
  if (host.includes(":") || host.startsWith("[")) {
    throw refuse(text, "guests have no IPv6", "name the host, or its IPv4 address");
  }
  const subdomains = host.startsWith("*.");
  const name = canonicalName(subdomains ? host.slice(2) : host);
  if (name === undefined) throw refuse(text, `${JSON.stringify(host)} is no name`);
  return { kind: "name", name, subdomains };
}

/**
 * Reads a rule.
 *
 * @throws {CloudletError} `invalid-input` for what is none
 */
export function parseRule(text: string, action: Rule["action"]): Rule {
  if (text.length > MOST_TEXT) throw refuse(`${text.slice(0, 60)}...`, "it is too long");
  const [, plain = "", suffix] = /^(.*?)(?:\/(tcp|udp))?$/.exec(text)!;
  const [, host = "", digits] = /^(.*?)(?::(\d*))?$/.exec(plain)!;
  if (host === "") throw refuse(text, "it names no host");
  const isSixth = host.includes(":"); // the last group of an IPv6 address is no port
  const target = targetOf(text, isSixth ? plain : host);
  const port = digits === undefined ? undefined : Number(digits);
  if (port !== undefined && (digits === "" || port < 1 || port > 65535)) {
    throw refuse(text, `${JSON.stringify(digits)} is no port`, "write a port from 1 to 65535");
  }
  return {
    action,
    target,
    text,
    ...(port !== undefined && { port }),
    ...(suffix === "udp" && { protocol: "udp" as const }),
  };
}

/** Whether every destination of the second target is one of the first. */
function covers(wide: Target, narrow: Target): boolean {
  if (wide.kind === "host" || narrow.kind === "host") return wide.kind === narrow.kind;
  if (wide.kind === "network") {
    return narrow.kind === "network" && wide.bits <= narrow.bits &&
      (wide.bits === 0 || (wide.address ^ narrow.address) >>> (32 - wide.bits) === 0);
  }
  if (narrow.kind !== "name") return false;
  if (!wide.subdomains) return !narrow.subdomains && wide.name === narrow.name;
  return narrow.name.endsWith(`.${wide.name}`) ||
    narrow.subdomains && narrow.name === wide.name;
}

/** Whether all that the second rule is for is decided by the first. */
function shadows(first: Rule, second: Rule): boolean {
  return (first.protocol ?? "tcp") === (second.protocol ?? "tcp") &&
    (first.port === undefined || first.port === second.port) &&
    covers(first.target, second.target);
}

/** Most rules of a policy: each connection looks at all of them. */
const MOST_RULES = 1000;

/**
 * Rules in their order, checked against each other.
 *
 * @param otherwise what holds where none matches
 * @param floor see {@linkcode Policy}
 * @throws {CloudletError} `invalid-input` when one can never match, or when there are too many
 */
export function policyOf(
  rules: readonly Rule[],
  otherwise: Policy["otherwise"],
  floor: Policy["floor"] = "rules",
): Policy {
  if (rules.length > MOST_RULES) {
    throw new CloudletError(
      `Cannot use ${rules.length} network rules: ${MOST_RULES} are the most`,
      {
        code: "invalid-input",
        remedy: "put names together as *.NAME, and addresses as networks",
      },
    );
  }
  rules.forEach((rule, i) => {
    const before = rules.slice(0, i).find((other) => shadows(other, rule));
    if (before === undefined) return;
    if (before.action === rule.action) return; // one of them is too much, which does no harm
    throw refuse(
      rule.text,
      `it can never match: the rule to ${before.action} ${before.text} comes before it`,
      "remove one of the two",
    );
  });
  return { rules, otherwise, floor };
}
