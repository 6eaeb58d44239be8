/**
 * What a guest does before it is saved: it warms up, and then comes to rest.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type { AgentClient } from "../agent/client/client.ts";
import { bounded, within } from "../agent/client/limits.ts";
import { COMMAND, type LanguageName, languageOrCommand } from "../workload/languages.ts";
import {
  ExecuteRequest_Action as Action,
  type ExecuteResponse,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { Vm } from "../vmm/vm.ts";

/** A program that writes a line; undefined where no interpreter can be idle. */
const PROGRAMS: Readonly<Record<LanguageName, string | undefined>> = {
  python: "print()",
  node: "console.log()",
  deno: "console.log()",
  bash: "echo",
  rust: undefined,
};

/** After the second time the agent has its code compiled and its memory at hand. */
const TIMES = 2;

/** What a program of a line may say, and how long it may take in milliseconds. */
const OUTPUT = { messages: 1000, bytes: 1 << 20, time: 300_000 };

const PAUSE = 50; // ms between two looks
const IDLE_LOOKS = 4;
const MOST_LOOKS = 200;

/**
 * Waits until a guest has done what is left to do behind the answer to a call, such as taking down the
 * memory of a program, but for no longer than ten seconds: what is not done when it is saved, each
 * clone has to do first.
 */
export async function untilIdle(vm: Vm, signal: AbortSignal): Promise<void> {
  for (let looks = 0, idle = 0; looks < MOST_LOOKS && idle < IDLE_LOOKS; looks++) {
    await delay(PAUSE, undefined, { signal });
    const now = await vm.idle();
    if (now === undefined) return; // saving it will say why
    idle = now ? idle + 1 : 0;
  }
}

/**
 * Runs a program of a line a few times, then leaves an interpreter waiting. A clone's first request
 * then meets no function that V8 has not compiled and no page that the guest has not mapped: where
 * the guest's kernel is emulated, a page costs two milliseconds, and the first byte of output comes
 * after a third of the time.
 *
 * @param agent of the guest to be saved
 * @param language whose interpreter shall wait; nothing is done for one that has none
 */
export async function warmUp(
  agent: AgentClient,
  language: string,
  signal: AbortSignal,
): Promise<void> {
  const { name, sourceFile } = languageOrCommand(language);
  const program = name === COMMAND ? undefined : PROGRAMS[name];
  if (program === undefined) return;
  const content = new TextEncoder().encode(program);
  for (let i = 0; i < TIMES; i++) {
    await agent.warm({ language }, { signal });
    using deadline = within(signal, OUTPUT.time);
    const run = agent.execute({
      workloadName: "rehearsal",
      language,
      action: Action.PREPARE_AND_RUN,
      options: { rawOutput: true, files: [{ path: sourceFile, content }] },
    }, { signal: deadline.signal });
    const sizeOf = ({ stdoutBytes, stderrBytes }: ExecuteResponse) =>
      (stdoutBytes?.length ?? 0) + (stderrBytes?.length ?? 0);
    for await (const _ of bounded(run, OUTPUT, sizeOf)) { /* the output is of no interest */ }
  }
  await agent.warm({ language }, { signal });
}
