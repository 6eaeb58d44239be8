/**
 * `deno task test`: all tests. Those of guests run file by file, some files side by side, since a guest
 * keeps one processor busy. With arguments it is `deno test -A` with these.
 *
 * @module
 */
import { hostResources } from "../base/control_group.ts";
import { takeSignals } from "../base/signals.ts";
import { printLines, seconds } from "./lines.ts";

/** Tests that one `deno test` runs. */
interface Job {
  readonly name: string;
  readonly args: readonly string[];
}

/** What `deno test` counts in the end. */
interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly ignored: number;
}

const GUESTS = "test/guest";
/** Bytes that the guests of a file take at most, about. */
const MEMORY = 4 * 1024 ** 3;

/** Files of guests that take minutes: they begin first, so that none is left alone in the end. */
const LONG = [
  "stress",
  "ends",
  "outcome",
  "agent",
  "examples",
  "snapshot_faults",
  "clones",
  "packages",
];

function jobs(): Job[] {
  const rest: Job = { name: "no guests", args: ["--doc", `--ignore=${GUESTS}`] };
  const names = Array.from(Deno.readDirSync(GUESTS), ({ name }) => name)
    .filter((name) => name.endsWith("_test.ts")).map((name) => name.replace("_test.ts", ""));
  const guests = Array.from(new Set([...LONG, ...names.sort()]), (name): Job => ({
    name,
    args: ["--no-check", `${GUESTS}/${name}_test.ts`],
  }));
  return [rest, ...guests];
}

const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed(?:.*? \| (\d+) ignored)?/gm;

/** What `deno test` lists last: the tests that failed, with their places. */
const FAILURES = /^ FAILURES $([^]*?)^FAILED \|/m;
/** Seconds of a job that are worth a line in the end. */
const SLOW = 60;

const running = new Set<Deno.ChildProcess>();

/** Starts `deno test`, in a process group with the programs that its tests start. */
function start(args: readonly string[], options: Deno.CommandOptions = {}): Deno.ChildProcess {
  const child = new Deno.Command(Deno.execPath(), {
    ...options,
    args: ["test", "-A", ...args],
    detached: true,
  }).spawn();
  running.add(child);
  void child.status.then(() => running.delete(child));
  return child;
}

/** Prints what comes; gives the end of it. */
async function show(
  name: string,
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
): Promise<string> {
  const print = printLines(name);
  let tail = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    print(text);
    tail = (tail + text).slice(-16_384);
  }
  if (tail !== "" && !tail.endsWith("\n")) print("\n");
  return tail;
}

/** How tests went. */
interface Outcome {
  /** Undefined when they ended without a count. */
  readonly counts: Counts | undefined;
  /** A line for each test that failed. */
  readonly failures: readonly string[];
}

/** Runs tests and prints what they print. */
async function run({ name, args }: Job): Promise<Outcome> {
  const child = start(args, {
    env: { NO_COLOR: "1" }, // the last line is read
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const [tail] = await Promise.all(
    [child.stdout, child.stderr].map((stream) => show(name, stream)),
  );
  const { success } = await child.status;
  const [passed, failed, ignored] = [...tail!.matchAll(SUMMARY)].at(-1)?.slice(1)
    .map((count) => Number(count ?? 0)) ?? [];
  const counts = passed === undefined || success !== (failed === 0)
    ? undefined
    : { passed, failed: failed!, ignored: ignored! };
  const failures = FAILURES.exec(tail!)?.[1]?.split("\n").filter((line) => line !== "") ?? [];
  return { counts, failures };
}

using _ = takeSignals((signal, exitCode) => {
  for (const { pid } of running) {
    try {
      Deno.kill(-pid, signal);
    } catch {
      // all of it has ended
    }
  }
  Deno.exit(exitCode);
});
if (Deno.args.length > 0) Deno.exit((await start(Deno.args).status).code);

const { memory, processors } = hostResources();
const room = Math.floor(Math.min(Deno.systemMemoryInfo().available, memory) / MEMORY);
const lanes = Math.max(1, Math.min(processors, room));
const queue = jobs();
const total = { passed: 0, failed: 0, ignored: 0 };
const remarks: string[] = [];
await Promise.all(Array.from({ length: lanes }, async () => {
  for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
    const start = performance.now();
    const { counts, failures } = await run(job);
    const took = (performance.now() - start) / 1000;
    if (took > SLOW) remarks.push(`${job.name} took ${took.toFixed(0)} s`);
    total.passed += counts?.passed ?? 0;
    total.failed += counts?.failed ?? 1;
    total.ignored += counts?.ignored ?? 0;
    if (counts !== undefined && counts.failed === 0) continue;
    remarks.push(`${job.name} failed: deno test -A ${job.args.join(" ")}`);
    remarks.push(...failures.map((line) => `${job.name} failed: ${line}`));
  }
}));
remarks.forEach((line) => console.log(line));
const { passed, failed, ignored } = total;
const verdict = failed === 0 ? "ok" : "FAILED";
console.log(
  `\n${verdict} | ${passed} passed | ${failed} failed | ${ignored} ignored (${seconds().trim()}s)`,
);
Deno.exit(failed === 0 ? 0 : 1);
