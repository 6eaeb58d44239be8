/**
 * The module of a vCPU thread.
 *
 * @module
 */
/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
import { messageOf } from "../base/errors.ts";
import type { FromVcpu, ToVcpu, VcpuExit } from "./messages.ts";
import { State, VcpuControl } from "./vcpu_control.ts";
import { VcpuLoop } from "./vcpu_loop.ts";

function tell(message: FromVcpu): void {
  self.postMessage(message);
}

self.onmessage = ({ data: { description } }: MessageEvent<ToVcpu>) => {
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
