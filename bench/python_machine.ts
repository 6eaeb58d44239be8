/**
 * A microVM with Python, as the benchmarks of restored machines use it.
 *
 * @module
 */
import type { AgentClient } from "../agent/client/client.ts";
import { silentProgress } from "../base/progress.ts";
import {
  ExecuteRequest_Action as Action,
  type ExecuteResponse,
} from "../proto/gen/cloudlet/agent/agent_pb.ts";
import type { HostMachine } from "../node/host_machine.ts";
import { microVms } from "../node/microvms.ts";

/** Its memory in MiB. */
export const MEMORY = 512;

/** Restores one; the first makes the snapshot. */
export function pythonMachine(id: string): Promise<HostMachine> {
  return microVms()({
    id,
    language: "python",
    memory: MEMORY,
    vcpus: 1,
    packages: [],
    signal: new AbortController().signal,
    progress: silentProgress,
  });
}

/** Runs a program as `hello.py`; its output comes as bytes. */
export function runHello(agent: AgentClient, program: string): AsyncIterable<ExecuteResponse> {
  return agent.execute({
    language: "python",
    action: Action.PREPARE_AND_RUN,
    options: {
      rawOutput: true,
      files: [{ path: "hello.py", content: new TextEncoder().encode(program) }],
    },
  });
}
