/**
 * Many restored microVMs: how much memory each takes beyond what they share, and whether they answer
 * rightly; then one after the other, which must leave nothing.
 *
 * `CLOUDLET_BENCH_VMS` (100) are alive at once, `CLOUDLET_BENCH_CYCLES` (1000) come and go.
 *
 * @module
 */
import type { HostMachine } from "../node/host_machine.ts";
import { pythonMachine, runHello } from "./python_machine.ts";
import { percentile, report } from "./report.ts";

const VMS = Number(Deno.env.get("CLOUDLET_BENCH_VMS") ?? 100);
const CYCLES = Number(Deno.env.get("CLOUDLET_BENCH_CYCLES") ?? 1000);
const ASKED = 20;
/** How often this process is looked at during the cycles. */
const LOOKS = 10;
const MIB = 1 << 20;

/** proc(5): what programs could take without swapping, in bytes. */
function memoryAvailable(): number {
  return Number(/MemAvailable:\s+(\d+)/.exec(Deno.readTextFileSync("/proc/meminfo"))![1]) * 1024;
}

const openFiles = () => [...Deno.readDirSync("/proc/self/fd")].length;
const threads = () => [...Deno.readDirSync("/proc/self/task")].length;

/** Whether a machine computes what it is asked for. */
async function answers(machine: HostMachine): Promise<boolean> {
  const number = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const decoder = new TextDecoder();
  let text = "";
  for await (const { stdoutBytes } of runHello(machine.agent, `print(${number} ** 3)`)) {
    text += decoder.decode(stdoutBytes, { stream: true });
  }
  return text === `${BigInt(number) ** 3n}\n`;
}

/** Many at once. */
async function alive(): Promise<void> {
  await (await pythonMachine("first"))[Symbol.asyncDispose](); // makes the snapshot, reads it into memory
  await using stack = new AsyncDisposableStack();
  const machines: HostMachine[] = [];
  const times: number[] = [];
  const before = memoryAvailable();
  for (let i = 0; i < VMS; i++) {
    const start = performance.now();
    machines.push(stack.use(await pythonMachine(`vm-${i}`)));
    times.push(performance.now() - start);
  }
  const each = (before - memoryAvailable()) / VMS / MIB;
  report({
    what: `restored, ${VMS} alive in the end`,
    unit: "ms",
    peer: "",
    ours: times,
    theirs: [],
  });
  console.log(`  memory of each, from MemAvailable: ${each.toFixed(1)} MiB`);
  let right = 0;
  const asked = Math.min(ASKED, VMS);
  const chosen = machines.map((machine) => ({ machine, at: Math.random() }))
    .sort((a, b) => a.at - b.at).slice(0, asked);
  for (const { machine } of chosen) if (await answers(machine)) right++;
  console.log(`  ${right} of ${asked} chosen at random answered rightly`);
}

/** One after the other. */
async function cycles(): Promise<void> {
  const times: number[] = [];
  let right = 0;
  const now = () => ({
    MiB: Deno.memoryUsage().rss / MIB,
    files: openFiles(),
    threads: threads(),
  });
  // Memory goes up and down by some 40 MiB, as V8 collects: only a row of values shows a trend.
  const seen: ReturnType<typeof now>[] = [];
  for (let i = 0; i < CYCLES; i++) {
    const start = performance.now();
    try {
      await using machine = await pythonMachine(`cycle-${i}`);
      if (await answers(machine)) right++;
    } catch (error) {
      console.error(error);
    }
    times.push(performance.now() - start);
    if (i % Math.ceil(CYCLES / LOOKS) === 0 || i === CYCLES - 1) seen.push(now());
  }
  const what = "restore, run, destroy";
  report({ what, unit: "ms", peer: "", ours: times, theirs: [] });
  console.log(`  ${right} of ${CYCLES} right; longest ${percentile(times, 1).toFixed(0)} ms`);
  console.log("  this process, from the first cycle to the last:");
  for (const unit of ["MiB", "files", "threads"] as const) {
    console.log(`    ${unit}: ${seen.map((state) => state[unit].toFixed(0)).join(" ")}`);
  }
}

/** Both. */
export async function benchDensity(): Promise<void> {
  await alive();
  await cycles();
}
