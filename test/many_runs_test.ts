/**
 * Many runs at a time through the HTTP API of a whole service: none is lost, nothing leaks, slow
 * and leaving clients harm nobody. The agents are processes of this host.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { testService } from "./service.ts";

const RUNS = 200;
const CONCURRENCY = 8;
const LEAVE = "leave";

/** What is run, and how it must end. */
const KINDS: readonly (readonly [code: string, outcome: string, exitCode: number | null])[] = [
  ["echo hello", "exited", 0],
  ["echo oops >&2; exit 7", "exited", 7],
  ["kill -SEGV $$", "signaled", 139],
  ["sleep 1000", "timed-out", 137],
  ["head -c 300000 /dev/zero", "exited", 0],
  [`echo ${LEAVE}; sleep 1000`, "disconnected", null],
  ["no-such-command", "exited", 127],
  ["sleep 0.2; echo late", "exited", 0],
];

function openFiles(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

async function post(url: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  return await fetch(`${url}/run`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
}

async function runOne(url: string, index: number): Promise<string> {
  const [code, outcome] = KINDS[index % KINDS.length]!;
  const leave = new AbortController();
  const response = await post(
    url,
    {
      language: "bash",
      code,
      id: `run-${index}`,
      log_level: "error",
      ...(outcome === "timed-out" && { timeout: 1 }),
    },
    leave.signal,
  );
  equal(response.status, 200);
  let text = "";
  try {
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (outcome === "disconnected" && text.includes(`"${LEAVE}\\n"`)) leave.abort();
    }
  } catch (error) {
    if (!leave.signal.aborted) throw error;
    return "disconnected";
  }
  return JSON.parse(text.trim().split("\n\n").at(-1)!.slice(6)).outcome;
}

Deno.test({
  name: `${RUNS} runs, ${CONCURRENCY} at a time, are all accounted for and leave nothing`,
  // fetch and the servers keep connections for a while after the last request
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using test = await testService();
    const { url } = test;
    await Promise.all(Array.from({ length: CONCURRENCY }, (_, i) => runOne(url, 100_000 + 8 * i)));
    const files = openFiles();

    const answers: number[] = [];
    let over = false;
    const health = (async () => {
      while (!over) {
        const start = performance.now();
        equal((await (await fetch(`${url}/healthz`)).json()).status, "ok");
        answers.push(performance.now() - start);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    let next = 0;
    const results = new Map<number, string>();
    await Promise.all(Array.from({ length: CONCURRENCY }, async () => {
      for (let index = next++; index < RUNS; index = next++) {
        results.set(index, await runOne(url, index));
      }
    }));
    over = true;
    await health;
    while (test.service.orchestrator.active.length > 0) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }

    for (let index = 0; index < RUNS; index++) {
      const [, outcome, exitCode] = KINDS[index % KINDS.length]!;
      equal(results.get(index), outcome, `run ${index} as its client saw it`);
      const record = await (await fetch(`${url}/runs/run-${index}`)).json();
      const noted = `run ${index} as noted: ${JSON.stringify(record)}`;
      deepEqual([record.outcome, record.exit_code], [outcome, exitCode], noted);
    }
    equal(test.machines.running, 0);
    equal(test.machines.count, RUNS + CONCURRENCY);
    // One idle connection for each of our clients may have come or gone.
    ok(openFiles() <= files + CONCURRENCY, `${openFiles()} open files, ${files} before`);
    answers.sort((a, b) => a - b);
    console.log(
      `healthz meanwhile: ${answers.length} answers, median ` +
        `${answers[answers.length >> 1]!.toFixed(1)} ms, longest ${answers.at(-1)!.toFixed(1)} ms`,
    );
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
    const { RunStore } = await import("../vmm/service/store.ts");
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
