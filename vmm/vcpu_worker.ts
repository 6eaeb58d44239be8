/**
 * The module of a vCPU thread.
 *
 * @module
 */
import { messageOf } from "../base/errors.ts";
import { workerScope } from "../base/worker_scope.ts";
import type { FromVcpu, ToVcpu, VcpuExit } from "./messages.ts";
import { State, VcpuControl } from "./vcpu_control.ts";
import { VcpuLoop } from "./vcpu_loop.ts";

const scope = workerScope<ToVcpu, FromVcpu>();

function tell(message: FromVcpu): void {
  scope.postMessage(message);
}

scope.onmessage = ({ data: { description } }) => {
  let exit: VcpuExit;
  try {
    using loop = new VcpuLoop(description, () => tell({ type: "serial-room" }));
    exit = loop.run();
  } catch (error) {
    exit = { kind: "internal-error", message: `vCPU ${description.id}: ${messageOf(error)}` };
    new VcpuControl(description.control).state = State.Ended;
  }
  tell({ type: "ended", exit });
};
tell({ type: "loaded" });
