import assert from "node:assert/strict";
import fc from "fast-check";
import { silentProgress } from "../base/progress.ts";
import { Admission } from "./admission.ts";
import { ManualClock } from "./clock_testing.ts";
import { LULL, PAUSED_MEMORY, Pool, type PrewarmedKind, RETRY, type Waiting } from "./pool.ts";

/** Lets everything go on that waits for nothing but promises. */
async function settle(): Promise<void> {
  for (let i = 0; i < 100; i++) await Promise.resolve();
}

/** Something that waits, and what happened to it. */
class Fake implements Waiting {
  disposals = 0;
  /** How long its end takes. */
  gone: Promise<void> = Promise.resolve();
  readonly #ended = Promise.withResolvers<void>();
  readonly ended = this.#ended.promise;

  constructor(readonly kind: string) {}

  get live(): boolean {
    return this.disposals === 0;
  }

  /** Ends by itself, as a guest that panics. */
  crash(): void {
    this.#ended.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.disposals++;
    return this.gone;
  }
}

interface Pending {
  readonly kind: string;
  readonly signal: AbortSignal;
  readonly resolve: (fake: Fake) => void;
  readonly reject: (error: unknown) => void;
}

const VM = 100; // MiB of a prewarmed VM

/** A pool with makers that the test lets succeed or fail, and requests as a node makes them. */
class Bench {
  readonly clock = new ManualClock();
  readonly admission: Admission;
  readonly pool: Pool<Fake, Fake>;
  readonly all: Fake[] = [];
  readonly taken = new Set<Fake>();
  readonly leases: Disposable[] = [];
  readonly said: string[] = [];
  pending: Pending[] = [];

  constructor(
    counts: Record<string, number> = {},
    { memory = 1000, machines = 10, paused = { each: 2, total: 3 } } = {},
  ) {
    this.admission = new Admission({ machines, memory, queue: 10, wait: 1e6 });
    const prewarmed = Object.entries(counts).map(([name, count]): PrewarmedKind<Fake> => ({
      name,
      count,
      memory: VM,
      make: this.make(name),
    }));
    this.pool = new Pool<Fake, Fake>({
      admission: this.admission,
      prewarmed,
      paused,
      progress: { ...silentProgress, info: (message) => void this.said.push(message) },
      clock: this.clock,
    });
  }

  readonly make = (kind: string) => (signal: AbortSignal) =>
    new Promise<Fake>((resolve, reject) => this.pending.push({ kind, signal, resolve, reject }));

  /** Lets what is being made come to its end, and what follows from it. */
  async finish(fails: (kind: string) => boolean = () => false): Promise<void> {
    await settle();
    for (let rounds = 0; this.pending.length > 0; rounds++) {
      assert.ok(rounds < 100, "it is made again and again");
      for (const { kind, signal, resolve, reject } of this.pending.splice(0)) {
        if (signal.aborted) reject(signal.reason);
        else if (fails(kind)) reject(new Error(`no ${kind}`));
        else resolve(this.made(kind));
      }
      await settle();
    }
  }

  made(kind: string): Fake {
    const fake = new Fake(kind);
    this.all.push(fake);
    return fake;
  }

  prewarmed(name: string): Fake | undefined {
    const found = this.pool.takePrewarmed((kind) => kind.name === name);
    if (found === undefined) return undefined;
    this.taken.add(found.machine);
    this.leases.push(found.lease);
    return found.machine;
  }

  paused(key: string): Fake | undefined {
    const found = this.pool.takePaused(key, this.make(key));
    if (found !== undefined) this.taken.add(found);
    return found;
  }

  /** Of those made: waiting ones are alive and no one's. */
  get waiting(): Fake[] {
    return this.all.filter((fake) => fake.live && !this.taken.has(fake));
  }

  /** What must be true whenever nothing moves. */
  check(): void {
    for (const fake of this.all) {
      assert.ok(fake.disposals <= 1, "it was ended twice");
      if (this.taken.has(fake)) assert.equal(fake.disposals, 0, "a request's machine was ended");
    }
    const { prewarmed, paused } = this.pool.waiting;
    assert.equal(prewarmed + paused, this.waiting.length, "one that lives is lost");
    const { idle, limits, machines, memory } = this.admission;
    const making = this.pending.length;
    assert.ok(machines + idle.machines <= limits.machines, "too many machines");
    assert.ok(memory + idle.memory <= limits.memory, "too much memory");
    const least = prewarmed * VM + paused * PAUSED_MEMORY;
    assert.ok(idle.memory >= least && idle.memory <= least + making * VM, "memory is not counted");
    assert.ok(making <= 1, "they are made one at a time");
  }

  async close(): Promise<void> {
    const closed = this.pool[Symbol.asyncDispose]();
    await this.finish();
    await closed;
    this.check();
    assert.deepEqual(this.waiting, [], "one that waited was left behind");
    assert.deepEqual(this.admission.idle, { machines: 0, memory: 0 });
  }
}

Deno.test("prewarmed VMs wait, are handed out with their place, and are replaced at once", async () => {
  const bench = new Bench({ python: 2 });
  await bench.finish();
  assert.deepEqual(bench.pool.waiting, { prewarmed: 2, paused: 0 });
  assert.deepEqual(bench.admission.idle, { machines: 2, memory: 2 * VM });
  assert.equal(bench.prewarmed("node"), undefined);
  assert.equal(bench.prewarmed("python")?.kind, "python");
  assert.deepEqual([bench.admission.machines, bench.admission.memory], [1, VM]);
  await bench.finish();
  assert.deepEqual(bench.pool.waiting, { prewarmed: 2, paused: 0 });
  bench.check();
  await bench.close();
});

Deno.test("clones are made of what was asked for lately, when no request came for a moment", async () => {
  const bench = new Bench();
  assert.equal(bench.paused("a"), undefined);
  await settle();
  assert.equal(bench.pending.length, 0, "the request has the processors");
  bench.clock.advance(LULL - 1);
  bench.paused("a"); // once more
  bench.clock.advance(LULL - 1);
  await settle();
  assert.equal(bench.pending.length, 0);
  bench.clock.advance(1);
  await bench.finish();
  assert.deepEqual(bench.pool.waiting, { prewarmed: 0, paused: 2 });
  assert.deepEqual(bench.admission.idle, { machines: 0, memory: 2 * PAUSED_MEMORY });

  bench.paused("b");
  bench.clock.advance(LULL);
  await bench.finish();
  const kinds = () => bench.waiting.map(({ kind }) => kind).sort().join("");
  assert.equal(kinds(), "abb", "three in all: one of the older kind was ended");
  bench.paused("c");
  bench.clock.advance(LULL);
  await bench.finish();
  assert.equal(kinds(), "bcc");
  assert.equal(bench.paused("c")?.kind, "c");
  bench.check();
  await bench.close();
});

Deno.test("a clone that cannot be made takes none of those with it that wait", async () => {
  const bench = new Bench();
  bench.paused("a");
  bench.clock.advance(LULL);
  await bench.finish();
  assert.equal(bench.paused("a")?.kind, "a");
  bench.clock.advance(LULL);
  await bench.finish(() => true);
  bench.check();
  assert.deepEqual(bench.said, ["No paused clone is kept ready: no a"]);
  bench.clock.advance(10 * RETRY);
  await bench.finish();
  assert.equal(bench.pool.waiting.paused, 1, "it is not tried again before a request comes");
  assert.equal(bench.paused("a")?.kind, "a", "the one that waited");
  bench.clock.advance(LULL);
  await bench.finish();
  assert.equal(bench.pool.waiting.paused, 2);
  await bench.close();
});

Deno.test("a machine that cannot be made, or ends at once, is tried again after a while", async () => {
  const bench = new Bench({ node: 1 });
  await bench.finish(() => true);
  assert.deepEqual(bench.said, ["No prewarmed node VM can wait: no node"]);
  bench.clock.advance(RETRY - 1);
  await bench.finish();
  assert.equal(bench.all.length, 0);
  bench.clock.advance(1);
  await bench.finish();
  assert.equal(bench.pool.waiting.prewarmed, 1);

  bench.all[0]!.crash();
  await bench.finish();
  assert.deepEqual([bench.all.length, bench.all[0]!.disposals], [1, 1]);
  bench.clock.advance(RETRY);
  await bench.finish();
  assert.equal(bench.pool.waiting.prewarmed, 1);

  bench.clock.advance(RETRY); // one that has waited for long is replaced at once
  bench.all[1]!.crash();
  await bench.finish();
  assert.equal(bench.pool.waiting.prewarmed, 1);
  await bench.close();
});

Deno.test("a request that needs the place evicts what waits, clones first, no more than it needs", async () => {
  const bench = new Bench({ python: 2 }, { memory: 300, machines: 3 });
  bench.paused("a");
  await bench.finish();
  bench.clock.advance(LULL);
  await bench.finish();
  const { signal } = new AbortController();
  assert.deepEqual(bench.pool.waiting, { prewarmed: 2, paused: 2 });
  const small = await bench.admission.acquire(100 - PAUSED_MEMORY, signal); // one clone must go
  assert.deepEqual(bench.pool.waiting, { prewarmed: 2, paused: 1 });
  const large = await bench.admission.acquire(90, signal); // one VM must go, and that is enough
  assert.deepEqual(bench.pool.waiting, { prewarmed: 1, paused: 1 });
  await settle();
  bench.check();
  await bench.finish();
  bench.clock.advance(RETRY);
  await bench.finish();
  assert.equal(bench.pool.waiting.prewarmed, 1, "there is no room for another");
  small[Symbol.dispose]();
  large[Symbol.dispose]();
  await bench.finish();
  assert.deepEqual(bench.pool.waiting, { prewarmed: 2, paused: 2 });
  bench.check();
  await bench.close();
});

Deno.test("nothing is evicted where that would not do, nor while it is being handed out", async () => {
  const bench = new Bench({ python: 2 }, { memory: 300, machines: 3 });
  await bench.finish();
  const abort = new AbortController();
  using _run = await bench.admission.acquire(50, abort.signal);
  const waits = bench.admission.acquire(280, abort.signal);
  await settle();
  assert.equal(bench.pool.waiting.prewarmed, 2, "the machine that runs leaves too little anyway");
  assert.ok(bench.prewarmed("python"));
  abort.abort(new Error("enough"));
  await assert.rejects(waits, /enough/);
  await bench.close();
});

Deno.test("what is being made gives up its place, too", async () => {
  const bench = new Bench({ python: 1 }, { memory: 100 });
  await settle();
  assert.equal(bench.pending.length, 1);
  const lease = bench.admission.acquire(100, new AbortController().signal);
  await settle();
  assert.equal(bench.pending[0]!.signal.aborted, true);
  await bench.finish();
  using _lease = await lease;
  assert.deepEqual(bench.said, []);
  await bench.close();
});

Deno.test("a maker that does not hear of the end has its machine ended all the same", async () => {
  const bench = new Bench({ python: 1 });
  await settle();
  const [{ resolve }] = bench.pending.splice(0) as [Pending];
  const closed = bench.pool[Symbol.asyncDispose]();
  resolve(bench.made("python"));
  await closed;
  assert.equal(bench.all[0]!.disposals, 1);
  await bench.close();
});

Deno.test("the place of one that ends is free when it is gone, and so is the pool closed", async () => {
  const bench = new Bench({ python: 1 }, { memory: VM });
  await bench.finish();
  const gone = Promise.withResolvers<void>();
  bench.all[0]!.gone = gone.promise;
  let admitted = false;
  const { signal } = new AbortController();
  const lease = bench.admission.acquire(VM, signal).then((lease) => {
    admitted = true;
    return lease;
  });
  let closed = false;
  const closing = bench.pool[Symbol.asyncDispose]().then(() => closed = true);
  await settle();
  assert.deepEqual([bench.all[0]!.disposals, admitted, closed], [1, false, false]);
  gone.resolve();
  await closing;
  using _lease = await lease;
});

type Step =
  | { readonly do: "paused" | "prewarmed"; readonly kind: string }
  | { readonly do: "finish" | "fail"; readonly kind: string }
  | { readonly do: "advance"; readonly by: number }
  | { readonly do: "acquire"; readonly by: number }
  | { readonly do: "crash"; readonly by: number }
  | { readonly do: "release" };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constantFrom("paused" as const, "prewarmed" as const),
    kind: fc.constantFrom("a", "b", "c"),
  }),
  fc.record({
    do: fc.constantFrom("finish" as const, "fail" as const),
    kind: fc.constantFrom("a", "b", "c"),
  }),
  fc.record({ do: fc.constant("advance" as const), by: fc.constantFrom(1, LULL, RETRY) }),
  fc.record({ do: fc.constant("acquire" as const), by: fc.constantFrom(20, 150, 400) }),
  fc.record({ do: fc.constant("crash" as const), by: fc.nat(20) }),
  fc.record({ do: fc.constant("release" as const) }),
);

Deno.test("whatever happens in whatever order, none that lives is lost, and none is left", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const bench = new Bench({ a: 2, b: 1 }, { memory: 420, machines: 4 });
      const abort = new AbortController();
      const runs: Promise<unknown>[] = [];
      for (const one of steps) {
        if (one.do === "paused") bench.paused(one.kind);
        else if (one.do === "prewarmed") bench.prewarmed(one.kind);
        else if (one.do === "finish") await bench.finish();
        else if (one.do === "fail") await bench.finish((kind) => kind === one.kind);
        else if (one.do === "advance") bench.clock.advance(one.by);
        else if (one.do === "crash") bench.waiting[one.by % (bench.waiting.length || 1)]?.crash();
        else if (one.do === "release") bench.leases.shift()?.[Symbol.dispose]();
        else if (one.do === "acquire") {
          const lease = bench.admission.acquire(one.by, abort.signal);
          runs.push(lease.then((lease) => bench.leases.push(lease), () => {}));
        }
        await settle();
        bench.check();
      }
      // With all requests gone and nothing failing, as many wait as shall.
      abort.abort(new Error("over"));
      await Promise.all(runs);
      for (const lease of bench.leases) lease[Symbol.dispose]();
      for (let i = 0; i < 3; i++) {
        await bench.finish();
        bench.clock.advance(RETRY);
      }
      await bench.finish();
      bench.check();
      assert.equal(bench.pool.waiting.prewarmed, 3);
      await bench.close();
      assert.equal(bench.admission.memory, 0);
    }),
    { numRuns: 300 },
  );
});
