import assert from "node:assert/strict";
import type { AgentClient } from "../agent/client/client.ts";
import { clockError } from "./clone_identity.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** An agent whose clock is ahead, and which takes time before and after it looks at it. */
function slowAgent(ahead: number, delays: readonly (readonly [before: number, after: number])[]) {
  let asked = 0;
  const info = async () => {
    const [before, after] = delays[Math.min(asked++, delays.length - 1)]!;
    await sleep(before);
    const clockNs = BigInt(Date.now() + ahead) * 1_000_000n;
    await sleep(after);
    return { clockNs };
  };
  return { agent: { info } as unknown as AgentClient, asked: () => asked };
}

Deno.test("how far a guest's clock is off is known better than the slowest way of an answer", async () => {
  const { signal } = new AbortController();
  for (const ahead of [-50_000, 7000]) {
    const { agent, asked } = slowAgent(ahead, [[400, 0], [0, 500], [300, 0], [0, 300]]);
    const error = Number(await clockError(agent, signal)) / 1e6;
    assert(Math.abs(error - ahead) <= 100, `${error} instead of ${ahead}`);
    assert(asked() <= 60);
  }
});

Deno.test("an agent that answers ever faster is asked on, and one that goes on so is not for ever", async () => {
  const { signal } = new AbortController();
  const delays = Array.from({ length: 100 }, (_, i): [number, number] => [0, 100 - i]);
  const { agent, asked } = slowAgent(0, delays);
  await clockError(agent, signal);
  assert(asked() > 20 && asked() <= 60, `${asked()}`);
});
