import { equal, match, ok, rejects } from "node:assert/strict";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { silentProgress } from "../base/progress.ts";
import { DEFAULT_LIMITS, ImageBudget, type ImageLimits } from "../builder/limits.ts";
import {
  ExecuteResponse_Stage as Stage,
  ExecuteResponseSchema,
  LayerResponseSchema,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { HostileAgent, says, silent, stream } from "../test/hostile_agent.ts";
import { saveChanges } from "./image_changes.ts";

const DONE = create(ExecuteResponseSchema, { stage: Stage.DONE, exitCode: 0 });
/** Of a machine with one MiB of memory, which bounds what its layer may have. */
const REQUEST = {
  id: "id",
  language: "bash",
  memory: 1,
  vcpus: 1,
  packages: [],
  signal: new AbortController().signal,
  progress: silentProgress,
};

async function withFile(
  test: (path: string, budget: ImageBudget) => Promise<void>,
  limits: Partial<ImageLimits> = {},
): Promise<void> {
  const directory = await Deno.makeTempDir();
  using budget = new ImageBudget("x", { ...DEFAULT_LIMITS, ...limits });
  try {
    await test(join(directory, "layer.tar"), budget);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function* endlessly<T>(piece: T): Generator<T> {
  for (;;) yield piece;
}

Deno.test("a layer is written as it comes", () =>
  withFile(async (path, budget) => {
    const data = (byte: number) =>
      create(LayerResponseSchema, { data: new Uint8Array(3).fill(byte) });
    await using agent = new HostileAgent({
      Execute: says(() => [DONE]),
      Layer: stream(LayerResponseSchema, () => [data(1), data(2)]),
    });
    await saveChanges(agent.machine(), ["true"], path, REQUEST, budget);
    equal((await Deno.readFile(path)).join(""), "111222");
  }));

Deno.test("a layer without an end is refused before it has filled the disk", () =>
  withFile(async (path, budget) => {
    for (const size of [256 * 1024, 0]) {
      const piece = create(LayerResponseSchema, { data: new Uint8Array(size) });
      await using agent = new HostileAgent({
        Execute: says(() => [DONE]),
        Layer: stream(LayerResponseSchema, () => endlessly(piece)),
      });
      await rejects(saveChanges(agent.machine(), ["true"], path, REQUEST, budget), {
        code: "guest",
        message: size === 0 ? /over \d+ messages/ : /over \d+ bytes/,
      });
      await Deno.remove(path);
    }
  }));

Deno.test("what commands say is kept up to a length, and comes up to a limit", () =>
  withFile(async (path, budget) => {
    const text = create(ExecuteResponseSchema, { stage: Stage.RUNNING, stdout: "x".repeat(5000) });
    const failed = create(ExecuteResponseSchema, {
      stage: Stage.FAILED,
      exitCode: 1,
      outcome: { message: "m".repeat(500_000) },
    });
    await using agent = new HostileAgent({ Execute: says(() => [text, failed]) });
    await rejects(saveChanges(agent.machine(), ["true"], path, REQUEST, budget), (error: Error) => {
      match(error.message, /^Cannot make the image: a command of it failed/);
      equal(error.message.length < 10_000, true);
      return true;
    });
    const large = create(ExecuteResponseSchema, { stderr: "x".repeat(1 << 19) });
    await using endless = new HostileAgent({ Execute: says(() => endlessly(large)) });
    await rejects(saveChanges(endless.machine(), ["true"], path, REQUEST, budget), {
      code: "guest",
      message: /over \d+ bytes/,
    });
  }));

Deno.test("a layer is refused when it is larger than the image may be", () =>
  withFile(async (path, budget) => {
    const piece = create(LayerResponseSchema, { data: new Uint8Array(65536) });
    await using agent = new HostileAgent({
      Execute: says(() => [DONE]),
      Layer: stream(LayerResponseSchema, () => endlessly(piece)),
    });
    const request = { ...REQUEST, memory: 1024 };
    await rejects(saveChanges(agent.machine(), ["true"], path, request, budget), {
      code: "invalid-input",
      message: /more than 1 MiB/,
    });
    ok((await Deno.stat(path)).size <= 2 ** 20);
  }, { bytes: 2 ** 20 }));

Deno.test("commands that say nothing are ended when the image's time is up", () =>
  withFile(async (path, budget) => {
    await using agent = new HostileAgent({ Execute: silent });
    const saved = saveChanges(agent.machine(), ["true"], path, REQUEST, budget);
    await rejects(saved.catch((error) => Promise.reject(budget.explain(error))), {
      code: "invalid-input",
      message: /takes over/,
    });
  }, { time: 50 }));
