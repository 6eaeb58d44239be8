/**
 * Many runs at a time through the HTTP API of a service, each of which ends in a way of its own.
 *
 * @module
 */
import { deepEqual, equal } from "node:assert/strict";

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

/** Clients that run programs on a service. */
export interface Load {
  /** Address of the HTTP API. */
  readonly url: string;
  /** Begins the ids of the runs; not used by this service before. */
  readonly prefix: string;
  readonly runs: number;
  readonly concurrency: number;
}

/** Sends the body of a run. */
export async function post(url: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  return await fetch(`${url}/run`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });
}

/** Carries out one run, and tells how it ended as its client saw it. */
async function runOne({ url, prefix }: Load, index: number): Promise<string> {
  const [code, outcome] = KINDS[index % KINDS.length]!;
  const leave = new AbortController();
  const response = await post(
    url,
    {
      language: "bash",
      code,
      id: `${prefix}-${index}`,
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
  const data = text.split("\n").findLast((line) => line.startsWith("data: "));
  const last = JSON.parse(data!.slice(6));
  return last.outcome ?? JSON.stringify(last);
}

/** Asks for the service's health again and again until disposed. */
class HealthWatch implements AsyncDisposable {
  /** Milliseconds that each answer took. */
  readonly answers: number[] = [];
  readonly #over = new AbortController();
  readonly #watching: Promise<void>;

  constructor(url: string) {
    this.#watching = this.#watch(url);
  }

  async #watch(url: string): Promise<void> {
    while (!this.#over.signal.aborted) {
      const start = performance.now();
      equal((await (await fetch(`${url}/healthz`)).json()).status, "ok");
      this.answers.push(performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#watching;
  }
}

/** Waits until `done`, but not for longer than some seconds: what is checked then says why. */
export async function settle(done: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !done(); i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/**
 * Carries the runs out, and checks that each ended as it must, for its client and in the service's
 * account.
 *
 * @returns how the service's health answered meanwhile, in words
 */
export async function manyRuns(load: Load): Promise<string> {
  const { url, prefix, runs, concurrency } = load;
  const results = new Map<number, string>();
  const start = performance.now();
  let answers: number[];
  {
    await using health = new HealthWatch(url);
    let next = 0;
    await Promise.all(Array.from({ length: concurrency }, async () => {
      for (let index = next++; index < runs; index = next++) {
        results.set(index, await runOne(load, index));
      }
    }));
    ({ answers } = health);
  }
  const seconds = (performance.now() - start) / 1000;
  for (let index = 0; index < runs; index++) {
    const [, outcome, exitCode] = KINDS[index % KINDS.length]!;
    equal(results.get(index), outcome, `run ${index} as its client saw it`);
    const id = `${prefix}-${index}`;
    let record = { ended_at: null, outcome: "", exit_code: null };
    for (let i = 0; i < 1000 && record.ended_at === null; i++) { // a client that left did not wait
      record = await (await fetch(`${url}/runs/${id}`)).json();
    }
    const noted = `run ${index} as noted: ${JSON.stringify(record)}`;
    deepEqual([record.outcome, record.exit_code], [outcome, exitCode], noted);
  }
  answers.sort((a, b) => a - b);
  const at = (share: number) => answers[Math.floor(share * (answers.length - 1))]!.toFixed(1);
  return `${runs} runs, ${concurrency} at a time, in ${seconds.toFixed(1)} s; healthz meanwhile: ` +
    `${answers.length} answers, median ${at(0.5)} ms, p95 ${at(0.95)} ms, longest ${at(1)} ms`;
}
