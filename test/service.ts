/**
 * A whole service on free ports, with agents on this host instead of microVMs.
 *
 * @module
 */
import { type ServeOptions, type Service, startService } from "../api/http/serve.ts";
import { HostProcessMachines } from "./host_process_machine.ts";
import { testNode } from "./test_node.ts";

/** A service under test. */
export interface TestService extends AsyncDisposable {
  readonly service: Service;
  readonly machines: HostProcessMachines;
  /** Address of the HTTP API. */
  readonly url: string;
  /** Address of VmmService. */
  readonly vmmUrl: string;
  /** Directory of the store. */
  readonly state: string;
}

/** Starts it. */
export async function testService(options: Partial<ServeOptions> = {}): Promise<TestService> {
  await using stack = new AsyncDisposableStack();
  const state = options.stateDirectory ?? await Deno.makeTempDir({ prefix: "cloudlet-state-" });
  // A directory that was given belongs to whoever gave it.
  if (options.stateDirectory === undefined) {
    stack.defer(() => Deno.remove(state, { recursive: true }));
  }
  const machines = stack.use(new HostProcessMachines());
  const service = await startService({
    node: testNode(machines.factory, { machines: 8, memory: 8192, queue: 1000 }),
    api: { hostname: "localhost", port: 0 },
    vmm: { hostname: "localhost", port: 0 },
    limits: { defaultMemory: 256, minMemory: 64, maxVcpus: 4, maxTime: 60_000 },
    maxBody: 1 << 20,
    version: "0.0.0-test",
    stateDirectory: state,
    prepared: machines.prepared,
    ...options,
  });
  stack.defer(() => service.close(0));
  const owned = stack.move();
  return {
    service,
    machines,
    state,
    url: `http://localhost:${service.api.port}`,
    vmmUrl: `http://localhost:${service.vmm.port}`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
