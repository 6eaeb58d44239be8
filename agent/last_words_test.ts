import assert from "node:assert/strict";
import fc from "fast-check";
import { LastWords, MOST_BYTES, MOST_REMAINDER, MOST_TIME, QUIET } from "./last_words.ts";
import { run, until, withAgent } from "./harness_test.ts";

/** What is left behind: when it writes, when it has something to do, whether it dies of a signal. */
interface Leftover {
  /** Milliseconds until the next piece and its bytes; nothing more when it has none left. */
  readonly pieces: readonly { readonly after: number; readonly bytes: number }[];
  /** Whether it runs in between. */
  readonly runs: boolean;
  /** Whether it does so for moments only, so that no look finds it running. */
  readonly brief?: boolean;
  /** Whether it is out of reach of the kill. */
  readonly escaped: boolean;
}

/** Plays a leftover against the state machine, with a clock of its own. */
function play({ pieces, runs, brief = false, escaped }: Leftover, left?: number) {
  const words = new LastWords(0, left);
  let now = 0;
  let read = 0;
  let index = 0;
  let due = pieces[0]?.after ?? Infinity;
  let killed: number | undefined;
  for (let steps = 0;; steps++) {
    assert(steps < 1e5, "it comes to an end");
    const step = words.next(now);
    if (step.kind === "over") return { now, read, killed, index };
    if (step.kind === "kill") {
      assert.equal(killed, undefined, "once");
      killed = now;
      if (!escaped) due = Infinity;
    } else if (step.kind === "look") {
      const wakes = brief && due !== Infinity; // runs in between, and is asleep at each look
      words.looked({ runs: runs && due !== Infinity, mark: wakes ? String(steps) : "" }, now);
    } else {
      assert(step.milliseconds >= 0 && step.milliseconds <= QUIET);
      if (due <= now + step.milliseconds) {
        now = Math.max(now, due);
        const { bytes } = pieces[index++]!;
        read += bytes;
        words.wrote(bytes, now);
        due = index < pieces.length ? now + pieces[index]!.after : Infinity;
      } else {
        now += step.milliseconds;
        words.silent(now);
      }
    }
  }
}

const leftover = fc.record({
  pieces: fc.array(
    fc.record({
      after: fc.integer({ min: 0, max: 400 }),
      bytes: fc.integer({ min: 1, max: 1 << 21 }),
    }),
    { maxLength: 60 },
  ),
  runs: fc.boolean(),
  brief: fc.boolean(),
  escaped: fc.boolean(),
});

Deno.test("last words end within their bounds, whatever is left behind", () => {
  fc.assert(fc.property(leftover, fc.option(fc.nat(20_000), { nil: undefined }), (what, left) => {
    const { now, read, killed } = play(what, left);
    const most = Math.min(MOST_TIME, Math.max(QUIET, left ?? Infinity));
    const largest = 1 << 21;
    assert(killed! <= most, `killed at ${killed}`);
    assert(now <= most + 2 * QUIET || what.escaped, `over at ${now}`);
    assert(read <= MOST_BYTES + largest + MOST_REMAINDER + largest, `${read} bytes`);
  }));
});

Deno.test("all is waited for of what writes at short intervals, or runs, within the bounds", () => {
  fc.assert(fc.property(leftover, (what) => {
    const time = what.pieces.reduce((sum, { after }) => sum + after, 0);
    const bytes = what.pieces.reduce((sum, { bytes }) => sum + bytes, 0);
    const steady = what.runs || what.brief || what.pieces.every(({ after }) => after < QUIET);
    if (!steady || time >= MOST_TIME || bytes > MOST_BYTES) return;
    assert.equal(play(what).index, what.pieces.length);
  }));
});

Deno.test("what is silent and does nothing is ended soon", () => {
  const { now, killed } = play({ pieces: [], runs: false, escaped: false });
  assert.deepEqual([killed, now], [QUIET, 2 * QUIET]);
  const late = play({ pieces: [{ after: 300, bytes: 1 }], runs: false, escaped: false });
  assert.equal(late.read, 0);
});

Deno.test("what writes without a pause is read up to the bounds in bytes, and no further", () => {
  const bytes = 1 << 20;
  const pieces = Array.from({ length: 1000 }, () => ({ after: 1, bytes }));
  assert.equal(play({ pieces, runs: true, escaped: false }).read, MOST_BYTES + bytes);
  // In another session, the kill does not reach it.
  const { read } = play({ pieces, runs: true, escaped: true });
  assert.equal(read, MOST_BYTES + bytes + MOST_REMAINDER + bytes);
});

withAgent("what a shell's tee has still to write is waited for", async (agent) => {
  const slow = "while IFS= read -r line; do sleep 0.02; echo $line; done";
  const { out, last } = await run(
    agent,
    "bash",
    `exec > >(${slow}); for i in {1..100}; do echo $i; done`,
  );
  assert.equal(out, Array.from({ length: 100 }, (_, i) => `${i + 1}\n`).join(""));
  assert.equal(last.exitCode, 0);
});

withAgent("what computes before its last words is waited for", async (agent) => {
  const busy =
    "cat >/dev/null; end=$((SECONDS + 2)); while [ $SECONDS -lt $end ]; do :; done; echo end";
  assert.equal((await run(agent, "bash", `exec > >(${busy}); echo x`)).out, "end\n");
});

withAgent("what writes for ever is ended with the time limit of its program", async (agent) => {
  const { out, last } = await run(agent, "bash", "while :; do echo y; sleep 0.05; done & exit 3", {
    timeout: { seconds: 2n },
  });
  assert.match(out, /^(y\n)+$/);
  assert.equal(last.exitCode, 3);
  await until(() => agent.children().length === 0);
});
