/**
 * Copying a running microVM: until the copy's first output, beside a new run from the snapshot, and
 * how long the original stands still.
 *
 * @module
 */
import { silentProgress } from "../base/progress.ts";
import {
  ExecuteRequest_Action as Action,
  type ExecuteResponse,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { pythonMachine, runHello } from "./python_machine.ts";
import { percentile, report } from "./report.ts";

const TIMES = 10;
const EXECUTION = "bench";
/** Writes a line every ten milliseconds. */
const TICKS = "import time\nwhile True:\n    print(flush=True)\n    time.sleep(0.01)\n";

async function firstOutput(responses: AsyncIterable<ExecuteResponse>): Promise<void> {
  for await (const { stdoutBytes } of responses) if (stdoutBytes !== undefined) return;
  throw new Error("the program ended without a word");
}

/** Notes when output comes, until it is stopped. */
async function listen(
  responses: AsyncIterable<ExecuteResponse>,
  times: number[],
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const { stdoutBytes } of responses) {
      if (stdoutBytes !== undefined) times.push(performance.now());
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Prints the comparisons. */
export async function benchFork(): Promise<void> {
  const signal = new AbortController().signal;
  const copy: number[] = [];
  const fresh: number[] = [];
  const still: number[] = [];
  for (let i = 0; i < TIMES; i++) {
    {
      const start = performance.now();
      await using machine = await pythonMachine(`fresh-${i}`);
      await firstOutput(runHello(machine.agent, "print()"));
      fresh.push(performance.now() - start);
    }
    await using machine = await pythonMachine(`bench-${i}`);

    const end = new AbortController();
    const ticks: number[] = [];
    const options = { executionId: EXECUTION, rawOutput: true };
    const request = { language: "python", code: TICKS, action: Action.PREPARE_AND_RUN, options };
    const program = machine.agent.execute(request, { signal: end.signal });
    const listening = listen(program, ticks, end.signal);
    while (ticks.length < 20) await new Promise((resolve) => setTimeout(resolve, 20));

    const begun = performance.now();
    const forked = { id: `copy-${i}`, execution: EXECUTION, signal, progress: silentProgress };
    await using other = await machine.fork!(forked);
    await firstOutput(other.agent.attach({ executionId: EXECUTION }, { signal: end.signal }));
    copy.push(performance.now() - begun);
    const gaps = ticks.slice(1).map((time, index) => ({
      from: ticks[index]!,
      gap: time - ticks[index]!,
    }));
    still.push(Math.max(...gaps.filter(({ from }) => from >= begun - 100).map(({ gap }) => gap)));
    end.abort();
    await listening;
  }
  const unit = "ms";
  const peer = "a new run from the snapshot";
  report({ what: "fork to the copy's first output", unit, peer, ours: copy, theirs: fresh });
  console.log(
    `  the original stands still for ${percentile(still, 0.5).toFixed(0)} ms ` +
      `(p95 ${percentile(still, 0.95).toFixed(0)})`,
  );
}

if (import.meta.main) await benchFork();
