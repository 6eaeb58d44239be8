/**
 * What a guest does before it is saved: once or twice what each clone of it will do first.
 *
 * @module
 */
import type { AgentClient } from "../../agent/client.ts";
import { languageOrCommand } from "../../agent/languages.ts";
import { ExecuteRequest_Action as Action } from "../../proto/gen/cloudlet/agent/agent_pb.ts";

/** After the second time the agent has its code compiled and its memory at hand. */
const TIMES = 2;

/**
 * Runs a program of a line a few times, then leaves an interpreter waiting. A clone's first request
 * then meets no function that V8 has not compiled and no page that the guest has not mapped: where
 * the guest's kernel is emulated, a page costs two milliseconds, and the first byte of output comes
 * after a third of the time.
 *
 * @param agent of the guest to be saved
 * @param language whose interpreter shall wait; nothing is done for one that has none
 */
export async function rehearse(
  agent: AgentClient,
  language: string,
  signal: AbortSignal,
): Promise<void> {
  const { warm, sourceFile } = languageOrCommand(language);
  if (warm === undefined) return;
  const content = new TextEncoder().encode(warm.rehearsal);
  for (let i = 0; i < TIMES; i++) {
    await agent.warm({ language }, { signal });
    const run = agent.execute({
      workloadName: "rehearsal",
      language,
      action: Action.PREPARE_AND_RUN,
      options: { rawOutput: true, files: [{ path: sourceFile, content }] },
    }, { signal });
    for await (const _ of run) { /* the output is of no interest */ }
  }
  await agent.warm({ language }, { signal });
}
