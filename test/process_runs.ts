/**
 * For tests of the library: the service with the calls of production, whose machines are processes of
 * this host.
 *
 * @module
 */
import type { Transport } from "@connectrpc/connect";
import { Orchestrator } from "../service/orchestrator.ts";
import { inMemoryTransport } from "../service/routes.ts";
import { RunStore } from "../service/run_store.ts";
import { HostProcessMachines } from "./host_process_machine.ts";
import { testNode } from "./test_node.ts";

/** Has a test talk to such a service, which ends with it. */
export async function withProcessRuns(
  test: (transport: Transport, service: Orchestrator) => Promise<void>,
): Promise<void> {
  await using machines = new HostProcessMachines();
  using store = RunStore.inMemory();
  await using service = new Orchestrator({
    node: testNode(machines.factory),
    prepared: machines.prepared,
    store,
    limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
  });
  await test(inMemoryTransport(service), service);
}
