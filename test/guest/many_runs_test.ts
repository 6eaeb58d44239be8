/**
 * Many runs at a time, each in a microVM that is restored from a snapshot: none is lost, and the
 * process has afterwards what it had before.
 *
 * CLOUDLET_TEST_RUNS is their number: few when absent, since a software-only host needs seconds of
 * processor time for each.
 */
import assert from "node:assert/strict";
import { basename } from "node:path";
import { startService } from "../../api/http/serve.ts";
import { runtimeDir } from "../../base/dirs.ts";
import { removeAtEnd } from "../../base/files.ts";
import { hostLimits } from "../../service/host_limits.ts";
import { microVms } from "../../node/microvms.ts";
import { PreparedWorkloads } from "../../service/prepared.ts";
import { manyRuns, settle } from "../many_runs.ts";
import { hasKvm } from "./fixtures.ts";
import { testNode } from "../test_node.ts";

const RUNS = Number(Deno.env.get("CLOUDLET_TEST_RUNS") ?? 16);
const CONCURRENCY = 8;
/** Bytes of garbage and of the allocator's hoard that may differ; one leaked machine has more. */
const SLACK = 128 << 20;
/** Threads of workers, of which each microVM has two and more; the runtime's own come and go. */
function workerThreads(): number {
  const isWorker = ({ name }: Deno.DirEntry) => {
    try {
      return Deno.readTextFileSync(`/proc/self/task/${name}/comm`).startsWith("worker-");
    } catch {
      return false; // it has ended
    }
  };
  return Array.from(Deno.readDirSync("/proc/self/task")).filter(isWorker).length;
}

// Other processes have microVMs as well, and theirs must not be counted.
const runtime = Deno.makeTempDirSync({ prefix: "cloudlet-test-" });
Deno.env.set("XDG_RUNTIME_DIR", runtime);
removeAtEnd(runtime);

/** Directories of sockets of this process's microVMs. */
function ownSockets(): number {
  try {
    const names = Array.from(Deno.readDirSync(runtimeDir()), ({ name }) => name);
    return names.filter((name) => name.startsWith("vm-")).length;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0; // no microVM was ever made
    throw error;
  }
}

/** Bytes of code that belongs to no file; V8's own is in mappings that can be written to. */
function madeCode(): number {
  const mappings = Deno.readTextFileSync("/proc/self/maps").matchAll(
    /^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ 0 *$/gm,
  );
  return mappings.reduce(
    (sum, [, start, end]) => sum + parseInt(end!, 16) - parseInt(start!, 16),
    0,
  );
}

/** What this process holds. */
function holdings() {
  return {
    files: [...Deno.readDirSync("/proc/self/fd")].length,
    workers: workerThreads(),
    /** Mappings of guest memory: a restored machine has its snapshot's file mapped. */
    guests: Deno.readTextFileSync("/proc/self/maps").match(/\/snapshots\/.*memory|kvm-vcpu/g)
      ?.length ?? 0,
    sockets: ownSockets(),
    code: madeCode(),
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
      // As many as the host's memory takes; the others wait for their turn.
      node: testNode(microVms(), {
        ...host.admission,
        machines: Math.min(CONCURRENCY, host.admission.machines),
      }),
      api: address,
      vmm: address,
      stateDirectory: directory,
      prepared: new PreparedWorkloads(`${directory}/workloads`),
      limits: host.limits,
      maxBody: 1 << 20,
      version: basename(directory),
    });
    stack.defer(() => service.close(0));
    const load = { url: `http://localhost:${service.api.port}`, concurrency: CONCURRENCY };
    const workers = workerThreads();
    const idle = () => service.orchestrator.active.length === 0 && workerThreads() <= workers;
    await manyRuns({ ...load, prefix: "before", runs: CONCURRENCY / 2 }); // makes the snapshot
    await settle(idle);
    const before = holdings();
    assert.deepEqual([before.guests, before.sockets], [0, 0]);

    console.log(await manyRuns({ ...load, prefix: "run", runs: RUNS }));
    await settle(idle);
    const after = holdings();
    console.log("before and after:", before, after);
    assert.deepEqual([after.guests, after.sockets], [0, 0]);
    assert.equal(after.workers, workers);
    assert.ok(after.code <= before.code);
    // An idle connection for each of our clients may have come or gone; both its ends are here.
    assert.ok(after.files <= before.files + 2 * CONCURRENCY);
    assert.ok(after.memory <= before.memory + SLACK);
  },
});
