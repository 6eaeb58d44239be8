/**
 * What tells one microVM from the others that come from the same snapshot: entropy, clock and name.
 *
 * @module
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AgentClient } from "../agent/client/client.ts";
import type { ResumeRequestSchema } from "../proto/gen/cloudlet/agent/agent_pb.ts";

/**
 * How far the clock of a guest to be saved is behind, in nanoseconds: two hours. Generators that trust
 * a seed for some time only seed themselves again when the clock is put right. OpenSSL trusts its own
 * for an hour (providers/implementations/rands/drbg_local.h: PRIMARY_RESEED_TIME_INTERVAL), and it
 * would do so as well when time went back, but then the files of the snapshot were of the future.
 */
export const BEHIND: bigint = 2n * 3_600_000_000_000n;

/** In bytes: what the key of the kernel's random pool has. Twice as many take it longer to hash. */
const ENTROPY = 32;
/** How often a guest that is to be saved is asked what time it is. */
const CLOCK_LOOKS = 5;

/** What no other machine gets. */
export function newIdentity(id = ""): MessageInitShape<typeof ResumeRequestSchema> {
  return {
    entropy: crypto.getRandomValues(new Uint8Array(ENTROPY)),
    clockNs: BigInt(Date.now()) * 1_000_000n,
    vmId: id,
    hostname: id.replace(/[^A-Za-z0-9-]/g, "-").slice(0, 12),
  };
}

/**
 * By how many nanoseconds the guest's clock is ahead: it began with the seconds of a real-time clock.
 * Of several answers the quickest tells best.
 */
export async function clockError(agent: AgentClient, signal: AbortSignal): Promise<bigint> {
  let best = { took: Infinity, error: 0n };
  for (let i = 0; i < CLOCK_LOOKS; i++) {
    const asked = Date.now();
    const { clockNs } = await agent.info({}, { signal });
    const took = Date.now() - asked;
    const error = clockNs - BigInt(Math.round((asked + took / 2) * 1e6));
    if (took < best.took) best = { took, error };
  }
  return best.error;
}
