/**
 * A node as the {@linkcode MachineFactory} that the orchestrator still takes.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { Progress } from "../base/progress.ts";
import type { LocalMachine } from "./local_machine.ts";
import type { Machine as HostMachine, MachineFactory } from "./machine_factory.ts";
import type { CreateEvent, Node } from "./node.ts";
import { isProgress, ProgressReporter } from "./progress_events.ts";

/** Makes machines of a node in this process. */
export function machineFactory(node: Node): MachineFactory {
  return ({ signal, progress, ...request }) => last(node.create(request, { signal }), progress);
}

async function last(events: AsyncIterable<CreateEvent>, progress: Progress): Promise<HostMachine> {
  using reporter = new ProgressReporter(progress);
  for await (const event of events) {
    if (event.kind === "machine") return hostMachine(event.machine as LocalMachine);
    if (isProgress(event)) reporter.report(event);
  }
  throw new CloudletError("Cannot make the machine: its node said nothing", { code: "internal" });
}

function hostMachine(machine: LocalMachine): HostMachine {
  const { host, facts, ended } = machine;
  return {
    agent: host.agent,
    program: facts.program,
    prepared: facts.prepared,
    keep: host.keep,
    ended,
    console: () => host.console(),
    ...(facts.forkable && {
      fork: ({ signal, progress, ...request }) => last(machine.fork(request, { signal }), progress),
    }),
    [Symbol.asyncDispose]: () => machine.end(),
  };
}
