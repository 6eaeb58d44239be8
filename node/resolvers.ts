/**
 * The resolvers that are asked for guests: the operator's, or the host's own.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import { readTextIfAny } from "../base/files.ts";
import { lazyImport } from "../base/lazy_import.ts";
import { parseAddress } from "../vmm/net/wire/ipv4.ts";

const DNS_PORT = 53;
/** MAXNS of resolv.conf(5). */
const MOST = 3;

/** A resolver. */
export interface ResolverAddress {
  /** IPv4 address as a 32-bit number. */
  readonly address: number;
  /** UDP port. */
  readonly port: number;
}

/**
 * The resolvers of a resolv.conf(5). Those with an IPv6 address are left out: guests' questions are
 * asked over IPv4.
 */
export function resolversOf(text: string): ResolverAddress[] {
  return text.split("\n").flatMap((line) => {
    const address = parseAddress(/^nameserver\s+(\S+)/.exec(line)?.[1] ?? "");
    return address === undefined ? [] : [{ address, port: DNS_PORT }];
  }).slice(0, MOST);
}

/**
 * Reads `ADDRESS` or `ADDRESS:PORT`.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parseResolver(text: string): ResolverAddress {
  const [, written = "", digits = String(DNS_PORT)] = /^([\d.]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = parseAddress(written);
  const port = Number(digits);
  if (address !== undefined && port > 0 && port < 65536) return { address, port };
  throw new CloudletError(`Cannot use ${JSON.stringify(text)} as a resolver`, {
    code: "invalid-input",
    remedy: "write an IPv4 address, with a port if it is not 53: 192.0.2.53:5353",
  });
}

/** The resolvers that are asked for guests. */
export async function findResolvers(): Promise<ResolverAddress[]> {
  const { loadSettings } = await lazyImport<typeof import("../base/settings.ts")>(
    "../base/settings.ts",
    import.meta.url,
  ); // and with it zod, which a run without a network does not need
  const configured = (await loadSettings()).network.resolver;
  if (configured !== undefined) return [parseResolver(configured)];
  const found = resolversOf(await readTextIfAny("/etc/resolv.conf") ?? "");
  // resolv.conf(5): without a line the name server on the local machine is asked
  return found.length > 0 ? found : [{ address: 0x7f00_0001, port: DNS_PORT }];
}
