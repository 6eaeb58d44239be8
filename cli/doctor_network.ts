/**
 * What doctor says of the network that programs can be given. Nothing is sent: whether a resolver
 * answers shows with the first name.
 *
 * @module
 */
import { readTextIfAny } from "../base/files.ts";
import { loadSettings } from "../base/settings.ts";
import { formatIpv4 } from "../node/network.ts";
import { parseResolver, type ResolverAddress, resolversOf } from "../node/resolvers.ts";
import type { Verdict } from "./doctor_finding.ts";

function written({ address, port }: ResolverAddress): string {
  const host = formatIpv4(address);
  return port === 53 ? host : `${host}:${port}`;
}

/**
 * Judges who is asked for names.
 *
 * @param configured the resolver of the settings
 * @param resolvConf content of the host's `/etc/resolv.conf`
 */
export function judgeNetwork(configured: string | undefined, resolvConf: string): Verdict {
  const asked = configured === undefined ? resolversOf(resolvConf) : [parseResolver(configured)];
  const detail = "programs can be given one with --network and --allow";
  if (asked.length > 0) {
    return { ok: "ok", detail: `${detail}; names are asked at ${asked.map(written).join(", ")}` };
  }
  return {
    ok: "warn",
    detail: `${detail}; names are asked at 127.0.0.1, since /etc/resolv.conf has no IPv4 resolver`,
    remedy: 'name one in the settings: [network] resolver = "ADDRESS"',
  };
}

/** See {@linkcode judgeNetwork}. */
export async function examineNetwork(): Promise<Verdict> {
  const { network } = await loadSettings();
  return judgeNetwork(network.resolver, await readTextIfAny("/etc/resolv.conf") ?? "");
}
