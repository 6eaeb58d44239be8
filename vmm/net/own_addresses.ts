/**
 * The addresses that are this host's own: services listen there that are for its people, not for its
 * guests.
 *
 * @module
 */
import type { OwnAddresses } from "./policy.ts";
import { parseAddress } from "./wire/ipv4.ts";

/** Milliseconds for which the list holds: interfaces come and go. */
const FRESH = 5000;

/**
 * Tells this host's addresses.
 *
 * @param gateway of the guest, whose network of 256 addresses is one of them
 */
export function ownAddresses(gateway: number): OwnAddresses {
  let known: ReadonlySet<number> = new Set();
  let until = -Infinity;
  return (address) => {
    if (address >>> 8 === gateway >>> 8) return true;
    const now = performance.now();
    if (now >= until) {
      const interfaces = Deno.networkInterfaces().filter(({ family }) => family === "IPv4");
      known = new Set(interfaces.map(({ address }) => parseAddress(address)!));
      until = now + FRESH;
    }
    return known.has(address);
  };
}
