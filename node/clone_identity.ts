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
/** How often a guest is asked the time without learning more before it is known well enough. */
const CLOCK_LOOKS = 5;
/** How often it is asked at the most. */
const MOST_CLOCK_LOOKS = 60;

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
 *
 * It was read at some time between question and answer, so each answer gives bounds, and all of them
 * together better ones. The first answers of an agent that has just started take a tenth of a second.
 */
export async function clockError(agent: AgentClient, signal: AbortSignal): Promise<bigint> {
  let [least, most] = [-Infinity, Infinity]; // ms
  for (let idle = 0, looks = 0; idle < CLOCK_LOOKS && looks < MOST_CLOCK_LOOKS; idle++, looks++) {
    const asked = Date.now();
    const { clockNs } = await agent.info({}, { signal });
    const answered = Date.now();
    const clock = Number(clockNs / 1000n) / 1000;
    if (clock - answered <= least && clock - asked >= most) continue;
    least = Math.max(least, clock - answered);
    most = Math.min(most, clock - asked);
    idle = -1;
  }
  return BigInt(Math.round((least + most) / 2 * 1e6));
}
