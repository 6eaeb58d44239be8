import assert from "node:assert/strict";
import { join } from "node:path";
import { silentProgress } from "../../base/progress.ts";
import { DEFAULT_LIMITS, ImageBudget } from "../../builder/limits.ts";
import { ExecuteResponse_Stage as Stage } from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import { saveChanges } from "./image_changes.ts";
import type { Machine } from "./machine.ts";

const MIB = 2 ** 20;
const CHUNK = 64 * 1024;

/** A guest whose root has put something else in the agent's place. */
function hostile(agent: {
  readonly execute?: (signal: AbortSignal) => AsyncIterable<unknown>;
  readonly layer?: () => AsyncIterable<{ data: Uint8Array }>;
}): Machine {
  const done = async function* () {
    yield { stage: Stage.DONE, exitCode: 0 };
  };
  return {
    program: undefined,
    agent: {
      execute: (_: unknown, { signal }: { signal: AbortSignal }) =>
        agent.execute?.(signal) ?? done(),
      layer: agent.layer,
    },
  } as unknown as Machine;
}

async function withFile(test: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(join(directory, "layer.tar"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const request = { progress: silentProgress, signal: new AbortController().signal };

Deno.test("a guest cannot fill the disk with what its commands changed", () =>
  withFile(async (path) => {
    let sent = 0;
    const machine = hostile({
      async *layer() {
        for (; sent < 64 * MIB; sent += CHUNK) yield { data: new Uint8Array(CHUNK) };
      },
    });
    using budget = new ImageBudget("x", { ...DEFAULT_LIMITS, bytes: MIB });
    await assert.rejects(saveChanges(machine, ["true"], path, request, budget), {
      code: "invalid-input",
      message: /more than 1 MiB/,
    });
    assert.ok((await Deno.stat(path)).size <= MIB);
    assert.ok(sent <= 2 * MIB, `${sent} bytes were asked for`);
  }));

Deno.test("commands that never end are ended when the time is up", () =>
  withFile(async (path) => {
    const machine = hostile({
      // deno-lint-ignore require-yield
      async *execute(signal) {
        await new Promise((_, reject) => {
          const late = setTimeout(() => reject(new Error("it was left to run")), 30_000);
          signal.addEventListener("abort", () => {
            clearTimeout(late);
            reject(signal.reason);
          });
        });
      },
    });
    using budget = new ImageBudget("x", { ...DEFAULT_LIMITS, time: 50 });
    await assert.rejects(saveChanges(machine, ["true"], path, request, budget), {
      code: "invalid-input",
      message: /takes over/,
    });
  }));
