import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { collect, type Result } from "../../agent/harness_test.ts";
import { silentProgress } from "../../base/progress.ts";
import {
  ExecuteRequest_Action as Action,
  ExecuteResponse_Stage as Stage,
  Outcome_Kind as Kind,
  SignalRequest_Signal as Signal,
} from "../../proto/gen/cloudlet/agent/agent_pb.ts";
import type { HostMachine } from "../../node/host_machine.ts";
import { microVms } from "../../node/microvms.ts";
import { hasKvm, testKernel } from "./fixtures.ts";

type Options = NonNullable<Parameters<HostMachine["agent"]["execute"]>[0]["options"]>;

const encoder = new TextEncoder();

Deno.test({
  name: "programs in a microVM run, are fed, signalled and ended",
  ignore: !hasKvm(),
  async fn(t) {
    await using machine = await microVms({ kernel: testKernel() })({
      id: "agent-test",
      language: "python",
      memory: 1024,
      vcpus: 1,
      packages: [],
      signal: new AbortController().signal,
      progress: silentProgress,
    });
    const { agent } = machine;
    const run = (code: string, options: Options = {}): Promise<Result> =>
      collect(agent.execute({
        workloadName: "w",
        language: "python",
        code,
        action: Action.PREPARE_AND_RUN,
        options: { rawOutput: true, ...options },
      }));

    await t.step("output, arguments, environment and exit code", async () => {
      const { out, last } = await run(
        'import os, sys\nprint(sys.argv[1:], os.environ["X"])\nsys.exit(3)',
        { args: ["a b", "ü"], env: { X: "x" } },
      );
      assert.equal(out, "['a b', 'ü'] x\n");
      assert.equal(last.exitCode, 3);
      assert.equal(last.stage, Stage.DONE);
    });

    await t.step("a resumed microVM has the host's clock and the name it was given", async () => {
      await agent.resume({
        entropy: crypto.getRandomValues(new Uint8Array(32)),
        clockNs: 4_000_000_000_000_000_000n, // in the year 2096
        vmId: "one",
        hostname: "guest-one",
      });
      const info = await agent.info({});
      assert.equal(info.vmId, "one");
      assert(info.clockNs >= 4_000_000_000_000_000_000n);
      const { out } = await run("import os; print(os.uname().nodename)");
      assert.equal(out, "guest-one\n");
    });

    await t.step("input comes back with the same hash", async () => {
      const stdin = Uint8Array.from({ length: 2_000_000 }, (_, i) => (i * 7) ^ (i >> 9));
      const { stdout, last } = await run(
        "import os\nwhile data := os.read(0, 65536): os.write(1, data)",
        { stdin },
      );
      assert.equal(last.exitCode, 0);
      const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
      assert.equal(hash(stdout), hash(stdin));
    });

    await t.step("a crash by signal", async () => {
      const { last } = await run("import os; os.kill(os.getpid(), 11)");
      assert.equal(last.outcome?.kind, Kind.SIGNALED);
      assert.equal(last.exitCode, 139);
    });

    await t.step("an endless loop", async () => {
      const { last } = await run("while True: pass", { timeout: { seconds: 2n } });
      assert.equal(last.outcome?.kind, Kind.TIMED_OUT);
    });

    await t.step("a program killed by a signal from outside", async () => {
      const stream = agent.execute({
        language: "python",
        code: "print('ready')\nwhile True: pass",
        action: Action.PREPARE_AND_RUN,
        options: { executionId: "loop" },
      });
      const { last } = await collect((async function* () {
        for await (const response of stream) {
          if (response.stdout?.startsWith("ready")) {
            await agent.signal({ executionId: "loop", signal: Signal.TERM });
          }
          yield response;
        }
      })());
      assert.equal(last.outcome?.kind, Kind.KILLED);
      assert.equal(last.exitCode, 143);
    });

    await t.step("and the agent still serves", async () => {
      const { out } = await run("print(input())", { stdin: encoder.encode("alive\n") });
      assert.equal(out, "alive\n");
    });
  },
});
