/**
 * Many runs at a time through the HTTP API of a whole service: none is lost, nothing leaks, slow
 * and leaving clients harm nobody. The agents are processes of this host.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { manyRuns, post, settle } from "./many_runs.ts";
import { testService } from "./service.ts";

const RUNS = 200;
const CONCURRENCY = 8;

function openFiles(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

Deno.test({
  name: `${RUNS} runs, ${CONCURRENCY} at a time, are all accounted for and leave nothing`,
  // fetch and the servers keep connections for a while after the last request
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using test = await testService();
    const { url } = test;
    const load = { url, concurrency: CONCURRENCY };
    await manyRuns({ ...load, prefix: "before", runs: CONCURRENCY });
    await settle(() => test.service.orchestrator.active.length === 0);
    const files = openFiles();
    console.log(await manyRuns({ ...load, prefix: "run", runs: RUNS }));
    await settle(() => test.service.orchestrator.active.length === 0);
    equal(test.machines.running, 0);
    equal(test.machines.count, RUNS + CONCURRENCY);
    // One idle connection for each of our clients may have come or gone.
    ok(openFiles() <= files + CONCURRENCY, `${openFiles()} open files, ${files} before`);
  },
});

Deno.test({
  name: "a client that does not read stops the program, not the service, and fills no memory",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using test = await testService();
    // By hand: fetch would read ahead.
    using slow = await Deno.connect({ hostname: "localhost", port: test.service.api.port });
    const body = JSON.stringify({ language: "bash", code: "yes", id: "slow" });
    await slow.write(new TextEncoder().encode(
      `POST /run HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n` +
        `content-length: ${body.length}\r\n\r\n${body}`,
    ));
    const written = async () => {
      const response = await fetch(`${test.url}/metrics/slow`);
      const { stdout_bytes } = await response.json();
      return Number(stdout_bytes ?? 0);
    };
    // It writes until every buffer on the way is full, and then no more.
    let before = -1;
    let now = await written();
    while (now === 0 || now !== before) {
      before = now;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      now = await written();
    }
    ok(now < 64 << 20, `${now} bytes are on the way`);
    const other = await post(test.url, { language: "bash", code: "echo others go on" });
    ok((await other.text()).includes("others go on"));
    slow.close();
    while (test.service.orchestrator.active.length > 0) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    console.log(`the program had written ${(now / 1024).toFixed(0)} KiB when it had to wait`);
  },
});

Deno.test({
  name: "a restarted service knows the runs of the one before, and marks those that were cut off",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const { RunStore } = await import("../service/run_store.ts");
    await using stack = new AsyncDisposableStack();
    const stateDirectory = await Deno.makeTempDir();
    stack.defer(() => Deno.remove(stateDirectory, { recursive: true }));
    const run = { workloadName: "w", language: "bash", action: "run", memory: 1, vcpus: 1 };
    { // what a service that was killed leaves: its lock is gone with it, its runs are not ended
      using store = await RunStore.open(`${stateDirectory}/runs.sqlite`);
      store.add({ ...run, id: "ended" });
      store.log("ended", "stdout", new TextEncoder().encode("kept\n"));
      store.update("ended", { state: "done", outcome: "exited", exitCode: 0, endedAt: Date.now() });
      store.add({ ...run, id: "cut" });
      store.update("cut", { state: "running" });
    }
    await using test = await testService({ stateDirectory });
    const { runs } = await (await fetch(`${test.url}/runs`)).json();
    deepEqual(
      runs.map(({ id, state, outcome }: Record<string, string>) => [id, state, outcome]),
      [["cut", "failed", "interrupted"], ["ended", "done", "exited"]],
    );
    const logs = await (await fetch(`${test.url}/logs/ended`)).json();
    equal(logs.entries[0].text, "kept\n");
    const second = await testService({ stateDirectory }).catch((error) => error);
    equal(second.code, "conflict");
  },
});
