/** A run that is copied while its program runs, and workloads that are prepared in a snapshot. */
import assert from "node:assert/strict";
import { inMemoryTransport } from "../../service/routes.ts";
import { microVms } from "../../node/microvms.ts";
import { Orchestrator } from "../../service/orchestrator.ts";
import { PreparedWorkloads } from "../../service/prepared.ts";
import { RunStore } from "../../service/run_store.ts";
import { hostLimits } from "../../service/host_limits.ts";
import { type Run, type RunOptions, runOver } from "../../api/library/run.ts";
import { hasKvm } from "./fixtures.ts";
import { LONG } from "../long.ts";

const MEMORY = 1024; // as the other guest tests: they share the snapshot

/** A service in this process, with workloads of its own. */
async function withService(
  work: (run: (options: RunOptions) => Run) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "cloudlet-test-" });
  try {
    await using orchestrator = new Orchestrator({
      node: testNode(microVms(), hostLimits().admission),
      store: RunStore.inMemory(),
      prepared: new PreparedWorkloads(directory),
      limits: hostLimits().limits,
    });
    const transport = inMemoryTransport(orchestrator);
    await work((options) => runOver(transport, { memory: MEMORY, ...options }));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Reads lines of a run's standard output. */
class Lines {
  readonly #events: AsyncIterator<{ type: string; data?: Uint8Array }>;
  readonly #decoder = new TextDecoder();
  #text = "";

  constructor(run: Run) {
    this.#events = run[Symbol.asyncIterator]() as AsyncIterator<
      { type: string; data?: Uint8Array }
    >;
  }

  /** The next line, or what is left at the end. */
  async next(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { done, value } = await this.#events.next();
      if (done === true) return this.#text;
      if (value.type === "stdout") this.#text += this.#decoder.decode(value.data);
    }
    const end = this.#text.indexOf("\n");
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return line;
  }

  /** All lines that are left. */
  async rest(): Promise<string[]> {
    const lines: string[] = [];
    for (let line = await this.next(); line !== ""; line = await this.next()) lines.push(line);
    return lines;
  }
}

const COUNT = `
import os, sys, time
marker = object()
print("begun", os.uname().nodename, flush=True)
number = 0
while not os.path.exists("/tmp/never") and number < 60:
    number += 1
    print("at", number, os.uname().nodename, flush=True)
    time.sleep(0.25)
print("end", number, id(marker), os.urandom(16).hex(), int(time.time()), flush=True)
sys.exit(7)
`;

Deno.test({
  name: "a running program is copied with its microVM, and both come to their own end",
  ignore: !hasKvm(),
  async fn() {
    await withService(async (run) => {
      await using original = run({ language: "python", code: COUNT, name: "count" });
      const first = new Lines(original);
      const begun = (await first.next()).split(" ")[1]!;
      for (let line = ""; !line.startsWith("at 3 ");) line = await first.next();
      await using copy = original.fork({ id: "the-copy" });
      const second = new Lines(copy);
      const resumed = await second.next();
      const [ours, theirs] = await Promise.all([first.rest(), second.rest()]);
      const results = await Promise.all([original.result, copy.result]);

      assert.deepEqual(results.map(({ exitCode, outcome }) => [exitCode, outcome]), [
        [7, "exited"],
        [7, "exited"],
      ]);
      assert.notEqual(results[0].id, results[1].id);
      assert.equal(results[1].id, "the-copy");
      // The copy goes on at the number where it was made, and misses none after that.
      const numbers = [resumed, ...theirs].filter((line) => line.startsWith("at "))
        .map((line) => Number(line.split(" ")[1]));
      assert(numbers[0]! > 3, resumed);
      assert.deepEqual(
        numbers,
        Array.from({ length: 61 - numbers[0]! }, (_, i) => numbers[0]! + i),
      );
      assert.equal(ours.filter((line) => line.startsWith("at ")).length, 60 - 3);
      // Same memory, own random numbers, own name, the right time.
      const end = [ours, theirs].map((lines) => lines.at(-1)!.split(" "));
      assert.deepEqual(end[0]!.slice(0, 3), end[1]!.slice(0, 3));
      assert.notEqual(end[0]![3], end[1]![3]);
      const names = theirs.filter((line) => line.startsWith("at ")).map((line) =>
        line.split(" ")[2]
      );
      assert.equal(names.at(-1), "the-copy");
      assert.notEqual(begun, "the-copy");
      for (const [, , , , time = ""] of end) {
        assert(Math.abs(Number(time) - Date.now() / 1000) < 60, time);
      }
    });
  },
});

Deno.test({
  name: "two copies that are made at the same time are both whole",
  ignore: !hasKvm(),
  async fn() {
    await withService(async (run) => {
      await using original = run({ language: "python", code: COUNT, name: "count" });
      const first = new Lines(original);
      for (let line = ""; !line.startsWith("at 3 ");) line = await first.next();
      const copies = ["one", "two"].map((id) => original.fork({ id }));
      const all = await Promise.all(
        [first, ...copies.map((copy) => new Lines(copy))].map((lines) => lines.rest()),
      );
      // First, since it tells why output is missing: who ended the program, and after what time.
      const results = await Promise.all([original, ...copies].map(({ result }) => result));
      assert.deepEqual(
        results.map(({ exitCode, outcome }) => [exitCode, outcome]),
        Array(3).fill([7, "exited"]),
        JSON.stringify(results),
      );
      for (const lines of all) {
        const numbers = lines.filter((line) => line.startsWith("at ")).map((line) =>
          Number(line.split(" ")[1])
        );
        const expected = Array.from({ length: numbers.length }, (_, i) => 61 - numbers.length + i);
        assert.deepEqual(numbers, expected, "it goes on where it was, and misses nothing");
        assert.match(lines.at(-1)!, /^end 60 /);
      }
    });
  },
});

Deno.test({
  name: "a prepared workload starts from a snapshot of its own, with what each run brings",
  ignore: !hasKvm(),
  async fn() {
    await withService(async (run) => {
      const code = `import os, sys\nprint(sys.argv[1:], os.environ.get("WHO"), sys.stdin.read(), ` +
        `os.urandom(8).hex())\n# ${crypto.randomUUID()}\n`;
      const program = { language: "python", code, name: "prepared" } as const;
      const prepared = await run({ ...program, action: "prepare" }).output();
      assert.equal(prepared.outcome, "prepared");

      const outputs: string[] = [];
      for (const who of ["one", "two"]) {
        const again = run({
          ...program,
          action: "run",
          args: [who],
          env: { WHO: who },
          stdin: `in ${who}`,
        });
        const { stdout, stderr, exitCode } = await again.output();
        assert.equal(exitCode, 0, new TextDecoder().decode(stderr));
        outputs.push(new TextDecoder().decode(stdout));
      }
      const random = outputs.map((text) => text.trim().split(" ").at(-1)!);
      assert.match(outputs[0]!, /^\['one'\] one in one [0-9a-f]{16}\n$/);
      assert.match(outputs[1]!, /^\['two'\] two in two [0-9a-f]{16}\n$/);
      assert.notEqual(random[0], random[1]);
    });
  },
});

const FORKS = LONG ? 200 : 10;
const PADDING = 60_000;
/** Writes all the time, and checks the numbers that it reads, until there is a "stop". */
const BUSY = `
import sys, threading, time
taken, stop = [], threading.Event()
def feed():
    for line in sys.stdin:
        if line == "stop\\n":
            stop.set()
            return
        taken.append(int(line))
threading.Thread(target=feed, daemon=True).start()
number = 0
while not stop.is_set():
    number += 1
    sys.stdout.write(f"at {number} " + "x" * ${PADDING} + "\\n")
    sys.stdout.flush()
    time.sleep(0.5)
whole = taken == list(range(1, len(taken) + 1))
print("end", number, len(taken), whole, flush=True)
sys.exit(7)
`;
import { testNode } from "../test_node.ts";

/** The number of a line, which has to be whole. */
function numberOf(line: string): number {
  const [, number, padding] = line.split(" ");
  assert.equal(line, `at ${Number(number)} ${padding}`);
  assert.equal(padding, "x".repeat(PADDING), "a damaged line");
  return Number(number);
}

const consecutive = (numbers: readonly number[]) =>
  numbers.every((number, i) => number === numbers[0]! + i);

Deno.test({
  name: "a microVM whose devices are busy is copied and kept, and nothing of it is lost or doubled",
  ignore: !hasKvm(),
  async fn() {
    await withService(async (run) => {
      let fed = 0;
      let feeding = true;
      async function* feed() {
        while (feeding) {
          yield new TextEncoder().encode(`${++fed}\n`);
          await new Promise((resolve) => setTimeout(resolve, 1500));
        }
        yield new TextEncoder().encode("stop\n");
      }
      await using original = run({ language: "python", code: BUSY, name: "busy", stdin: feed() });
      const first = new Lines(original);
      const begun = [await first.next()];
      const ours = first.rest();

      let kept: Promise<unknown> = Promise.resolve();
      for (let i = 0; i < FORKS; i++) {
        await using copy = original.fork({ id: `busy-${i}` });
        if (i % 4 === 3) { // a client leaves while the microVM is copied for it
          for await (const { type } of copy) if (type === "stage") break;
          continue;
        }
        let text = "";
        for await (const event of copy) {
          if (event.type === "stdout") text += new TextDecoder().decode(event.data);
          if (text.split("\n").length > 4) break;
        }
        const theirs = text.split("\n").slice(1, 4).map(numberOf); // the first was on its way
        assert(consecutive(theirs), `copy ${i} missed some of its own output: ${theirs}`);
        if (i === 1) { // another one of the same device thread is kept meanwhile
          const code = `print("kept") # ${crypto.randomUUID()}`;
          kept = run({ language: "python", code, action: "prepare" }).output();
        }
      }
      await kept;
      feeding = false;
      const all = [...begun, ...await ours];
      const { exitCode } = await original.result;
      assert.equal(exitCode, 7);
      const end = all.pop();
      const numbers = all.map(numberOf);
      assert.deepEqual([numbers[0], consecutive(numbers)], [1, true], "output was lost or doubled");
      assert.equal(end, `end ${numbers.length} ${fed} True`);
    });
  },
});
