/**
 * Many runs at a time, each in a microVM that is restored from a snapshot: none is lost, and the
 * process has afterwards what it had before.
 *
 * CLOUDLET_TEST_RUNS is their number: few when absent, since a software-only host needs seconds of
 * processor time for each.
 */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { startService } from "../../api/serve.ts";
import { runtimeDir } from "../../base/dirs.ts";
import { hostLimits } from "../../vmm/service/host_limits.ts";
import { microVms } from "../../vmm/service/microvm.ts";
import { PreparedWorkloads } from "../../vmm/service/prepared.ts";
import { manyRuns, settle } from "../many_runs.ts";
import { hasKvm } from "./fixtures.ts";

const RUNS = Number(Deno.env.get("CLOUDLET_TEST_RUNS") ?? 16);
const CONCURRENCY = 8;
/** Bytes of garbage and of the allocator's hoard that may differ; one leaked machine has more. */
const SLACK = 64 << 20;

/** What this process holds. */
function holdings() {
  const count = (path: string) => [...Deno.readDirSync(path)].length;
  const sockets = Array.from(Deno.readDirSync(runtimeDir()), ({ name }) => name);
  return {
    files: count("/proc/self/fd"),
    threads: count("/proc/self/task"),
    /** Mappings of guest memory: a restored machine has its snapshot's file mapped. */
    guests: Deno.readTextFileSync("/proc/self/maps").match(/\/snapshots\/.*memory|kvm-vcpu/g)
      ?.length ?? 0,
    sockets: sockets.filter((name) => name.startsWith(`vm-${Deno.pid}-`)).length,
    memory: Deno.memoryUsage().rss,
  };
}

Deno.test({
  name: `${RUNS} runs in microVMs, ${CONCURRENCY} at a time, are accounted for and leave nothing`,
  ignore: !hasKvm(),
  // fetch and the servers keep connections for a while after the last request
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using stack = new AsyncDisposableStack();
    const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
    stack.defer(() => Deno.remove(directory, { recursive: true }));
    const address = { hostname: "localhost", port: 0 };
    const host = hostLimits();
    const service = await startService({
      machines: microVms(),
      api: address,
      vmm: address,
      stateDirectory: directory,
      prepared: new PreparedWorkloads(`${directory}/workloads`),
      ...host,
      // As many as the host's memory takes; the others wait for their turn.
      admission: { ...host.admission, machines: Math.min(CONCURRENCY, host.admission.machines) },
      maxBody: 1 << 20,
      version: basename(directory),
    });
    stack.defer(() => service.close(0));
    const load = { url: `http://localhost:${service.api.port}`, concurrency: CONCURRENCY };
    const idle = () => service.orchestrator.active.length === 0;
    await manyRuns({ ...load, prefix: "before", runs: CONCURRENCY / 2 }); // makes the snapshot
    await settle(idle);
    const before = holdings();
    assert.deepEqual([before.guests, before.sockets], [0, 0]);

    console.log(await manyRuns({ ...load, prefix: "run", runs: RUNS }));
    await settle(() => idle() && holdings().threads <= before.threads);
    const after = holdings();
    console.log("before and after:", before, after);
    assert.deepEqual([after.guests, after.sockets], [0, 0]);
    assert.ok(after.threads <= before.threads);
    // One idle connection for each of our clients may have come or gone.
    assert.ok(after.files <= before.files + CONCURRENCY);
    assert.ok(after.memory <= before.memory + SLACK);
  },
});
