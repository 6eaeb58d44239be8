/**
 * The module of a thread that runs vCPUs: one, in which it blocks, or several on threads of the
 * runtime's pool.
 *
 * @module
 */
import { messageOf } from "../../base/errors.ts";
import { workerScope } from "../../base/worker_scope.ts";
import type { FromVcpu, ToVcpu, VcpuDescription, VcpuExit } from "./vcpu_messages.ts";
import { runCall } from "./run_call.ts";
import { State, VcpuControl } from "./vcpu_control.ts";
import { VcpuLoop } from "./vcpu_loop.ts";

const scope = workerScope<ToVcpu, FromVcpu>();

/** How a vCPU ends whose loop threw. */
function broken(description: VcpuDescription, error: unknown): VcpuExit {
  new VcpuControl(description.control).state = State.Ended;
  return { kind: "internal-error", message: `vCPU ${description.id}: ${messageOf(error)}` };
}

function run(description: VcpuDescription): void {
  const tell = (message: FromVcpu) => scope.postMessage(message);
  let exit: VcpuExit;
  try {
    using loop = new VcpuLoop(description, () => tell({ type: "serial-room" }));
    exit = loop.run();
  } catch (error) {
    exit = broken(description, error);
  }
  tell({ type: "ended", exit });
}

async function host({ description, port, code }: ToVcpu & { type: "host" }): Promise<void> {
  const tell = (message: FromVcpu) => port.postMessage(message);
  let exit: VcpuExit;
  try {
    using loop = new VcpuLoop(description, () => tell({ type: "serial-room" }));
    exit = await loop.runOnPool(runCall(code));
  } catch (error) {
    exit = broken(description, error);
  }
  tell({ type: "ended", exit });
  port.close();
}

scope.onmessage = ({ data }) => {
  switch (data.type) {
    case "run":
      return run(data.description);
    case "host":
      return void host(data);
    case "end":
      return scope.close();
    default:
      data satisfies never;
  }
};
scope.postMessage({ type: "loaded" });
