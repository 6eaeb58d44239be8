import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type ListOptions, type RunRecord, RunStore } from "./run_store.ts";

const utf8 = new TextEncoder();
const text = new TextDecoder();
const RUN = { workloadName: "w", language: "bash", action: "run", memory: 256, vcpus: 1 };
const ids = (runs: readonly RunRecord[]) => runs.map(({ id }) => id);

function add(store: RunStore, ...ids: readonly string[]): void {
  for (const id of ids) store.add({ ...RUN, id });
}

function end(store: RunStore, ...ids: readonly string[]): void {
  for (const id of ids) {
    store.update(id, { state: "done", outcome: "exited", exitCode: 0, endedAt: Date.now() });
  }
}

function output(store: RunStore, id: string): string {
  return [...store.logs(id)].map(({ data }) => text.decode(data)).join("");
}

/** All pages, one after the other. */
function pages(store: RunStore, options: ListOptions): string[][] {
  const all: string[][] = [];
  let after: string | undefined;
  for (;;) {
    const { runs, next } = store.page({ ...options, after });
    all.push(ids(runs));
    if (next === undefined) return all;
    after = next;
  }
}

async function inDirectory(test: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(join(directory, "state", "runs.sqlite"));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("what is written of a run is read again, also after the store was closed", () =>
  inDirectory(async (path) => {
    {
      using store = await RunStore.open(path);
      add(store, "ended", "cut");
      store.log("ended", "stdout", utf8.encode("out"));
      store.log("ended", "stderr", utf8.encode("err"));
      store.log("cut", "stdout", utf8.encode("beginning"));
      store.update("ended", { wallTime: 1.5, peakMemory: 7 });
      end(store, "ended");
      store.update("cut", { state: "running" });
      await rejects(RunStore.open(path), { code: "conflict", message: /another cloudlet server/ });
    }
    using store = await RunStore.open(path);
    const { state, outcome, exitCode, wallTime, stdoutBytes, loggedBytes } = store.get("ended")!;
    deepEqual([state, outcome, exitCode, wallTime], ["done", "exited", 0, 1.5]);
    deepEqual([stdoutBytes, loggedBytes, output(store, "ended")], [3, 6, "outerr"]);
    const cut = store.get("cut")!;
    deepEqual([cut.state, cut.outcome, output(store, "cut")], [
      "failed",
      "interrupted",
      "beginning",
    ]);
    ok(cut.endedAt !== null);
    throws(() => add(store, "ended"), { code: "conflict" });
    equal(store.get("nobody"), undefined);
  }));

/** What cloudlet 0.1.0 made: version 1 of the tables, with a run that ended and one that was cut off. */
const VERSION_1 = `
  CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    workload_name TEXT NOT NULL,
    language TEXT NOT NULL,
    action TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT,
    exit_code INTEGER,
    message TEXT,
    memory INTEGER NOT NULL,
    vcpus INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    stdout_bytes INTEGER NOT NULL DEFAULT 0,
    stderr_bytes INTEGER NOT NULL DEFAULT 0,
    logged_bytes INTEGER NOT NULL DEFAULT 0,
    wall_time REAL,
    user_time REAL,
    system_time REAL,
    peak_memory INTEGER
  ) STRICT;
  CREATE INDEX runs_by_time ON runs (created_at);
  CREATE TABLE logs (
    run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    time INTEGER NOT NULL,
    stream TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run, number)
  ) STRICT, WITHOUT ROWID;
  PRAGMA user_version = 1;
  INSERT INTO runs VALUES ('old','w','python','run','done','exited',3,NULL,1024,1,1700000000000,
    1700000000100,1700000000200,5,0,5,99.5,10.0,20.0,4096);
  INSERT INTO runs VALUES ('cut','w','python','run','running',NULL,NULL,NULL,1024,1,1700000000300,
    1700000000400,NULL,0,0,0,NULL,NULL,NULL,NULL);
  INSERT INTO logs VALUES ('old',0,1700000000150,'stdout',x'68656c6c6f');
  INSERT INTO logs VALUES ('cut',0,1700000000450,'stdout',x'6f66');
`;

Deno.test("the store of the version before opens, with its runs and logs", () =>
  inDirectory(async (path) => {
    await Deno.mkdir(join(path, ".."));
    using old = new DatabaseSync(path);
    old.exec(VERSION_1);
    old.close();
    for (let i = 0; i < 2; i++) { // the second time there is nothing to do
      using store = await RunStore.open(path);
      const { exitCode, memory, createdAt, wallTime } = store.get("old")!;
      deepEqual([exitCode, memory, createdAt, wallTime], [3, 1024, 1_700_000_000_000, 99.5]);
      deepEqual([output(store, "old"), output(store, "cut")], ["hello", "of"]);
      equal(store.get("cut")!.outcome, "interrupted");
    }
    {
      using store = await RunStore.open(path, { logs: 5 + 64 + 2 + 64 + 100 });
      add(store, "new"); // old logs count as new ones do
      store.log("new", "stdout", new Uint8Array(50));
      deepEqual([output(store, "old"), output(store, "cut")], ["", "of"]);
    }
    using database = new DatabaseSync(path);
    equal(database.prepare("PRAGMA user_version").get()?.user_version, 3);
  }));

Deno.test("a store that a newer cloudlet wrote is refused and left alone", () =>
  inDirectory(async (path) => {
    (await RunStore.open(path))[Symbol.dispose]();
    const database = new DatabaseSync(path);
    database.exec("PRAGMA user_version = 1000");
    database.close();
    for (let i = 0; i < 2; i++) { // the lock of the first attempt is gone
      await rejects(RunStore.open(path), { code: "conflict", message: /version 1000/ });
    }
  }));

Deno.test("a step that fails is as if it had not begun", () =>
  inDirectory(async (path) => {
    await Deno.mkdir(join(path, ".."));
    const database = new DatabaseSync(path);
    database.exec(VERSION_1);
    database.exec("CREATE INDEX runs_by_progress ON runs (state)"); // the step makes one
    await rejects(RunStore.open(path), /runs_by_progress/);
    equal(database.prepare("PRAGMA user_version").get()?.user_version, 1);
    const columns = database.prepare("PRAGMA table_info(runs)").all().map(({ name }) => name);
    equal(columns.includes("log_cost"), false);
    database.exec("DROP INDEX runs_by_progress");
    database.close();
    using store = await RunStore.open(path);
    equal(store.get("old")!.exitCode, 3);
  }));

Deno.test("pages go through all runs, also through those of one millisecond", () => {
  const database = new DatabaseSync(":memory:");
  using store = RunStore.inMemory({}, database);
  const all = Array.from({ length: 25 }, (_, i) => `run-${i}`);
  add(store, ...all);
  end(store, ...all);
  database.exec("UPDATE runs SET created_at = 1700000000000");
  const got = pages(store, { limit: 7 });
  deepEqual(got.map(({ length }) => length), [7, 7, 7, 4]);
  deepEqual(got.flat(), all.toReversed());
  deepEqual(pages(store, { limit: 25 }), [all.toReversed()]);
  throws(() => store.page({ after: "x" }), { code: "invalid-input" });
});

Deno.test("runs under way are listed first, however old they are", () => {
  using store = RunStore.inMemory();
  const ended = Array.from({ length: 5 }, (_, i) => `ended-${i}`);
  add(store, "old", ...ended, "new");
  end(store, ...ended);
  deepEqual(ids(store.list({ limit: 3 })), ["new", "old", "ended-4"]);
  deepEqual(pages(store, { limit: 3 }).flat(), ["new", "old", ...ended.toReversed()]);
  const first = store.page({ limit: 1 });
  deepEqual(ids(first.runs), ["new"]);
  end(store, "old"); // between two pages: it is not lost
  const rest = pages(store, { limit: 1 });
  ok(rest.flat().includes("old"));
  deepEqual(ids(store.list({ state: "pending" })), ["new"]);
  deepEqual(ids(store.list({ state: "done", limit: 2 })), ["ended-4", "ended-3"]);
});

Deno.test("a page of those older than a time has them in the order of their age", () => {
  const database = new DatabaseSync(":memory:");
  using store = RunStore.inMemory({}, database);
  add(store, "a", "b", "c", "d");
  const setTime = database.prepare("UPDATE runs SET created_at = ? WHERE id = ?");
  for (const [i, id] of ["a", "b", "c", "d"].entries()) setTime.run(1000 + i, id);
  end(store, "b", "c");
  deepEqual(ids(store.list({ before: 1003 })), ["c", "b", "a"]);
  deepEqual(ids(store.list({ before: 1000 })), []);
});

Deno.test("the oldest runs are removed, but none that is under way", () => {
  using store = RunStore.inMemory({ runs: 3 });
  add(store, "live", "a", "b", "c", "d", "e");
  end(store, "a", "b", "c", "d", "e");
  deepEqual(ids(store.list()), ["live", "e", "d", "c"]);
  equal(output(store, "a"), "");
});

Deno.test("of each run the beginning is kept, and all that is written is counted", () => {
  using store = RunStore.inMemory({ log: 200 });
  add(store, "a");
  store.log("a", "service", utf8.encode("remark"));
  for (const piece of ["x".repeat(30), "", "y".repeat(100)]) {
    store.log("a", "stdout", utf8.encode(piece));
  }
  store.log("a", "stderr", utf8.encode("z"));
  end(store, "a");
  const { stdoutBytes, stderrBytes, loggedBytes } = store.get("a")!;
  deepEqual([stdoutBytes, stderrBytes, loggedBytes], [130, 1, 30]);
  equal(output(store, "a"), "remark" + "x".repeat(30));
  store.log("a", "stdout", utf8.encode("late")); // it has ended
  equal(store.get("a")!.stdoutBytes, 130);
});

Deno.test("all logs together are bounded: the oldest go, those of runs under way stay", () => {
  const database = new DatabaseSync(":memory:");
  const limits = { log: 10_000, logs: 40_000, runs: 100 };
  using store = RunStore.inMemory(limits, database);
  const bytes = () =>
    Number(database.prepare("SELECT sum(length(data) + 64) AS n FROM logs").get()?.n);
  add(store, "live");
  store.log("live", "stdout", new Uint8Array(5000));
  for (let i = 0; i < 20; i++) {
    add(store, `${i}`);
    store.log(`${i}`, "stdout", new Uint8Array(9000));
    ok(bytes() <= limits.logs, `${bytes()} bytes`);
    end(store, `${i}`);
  }
  const kept = ids(store.list()).filter((id) => output(store, id) !== "");
  deepEqual(kept, ["live", "19", "18", "17"]);
  equal(store.list().length, 21, "the records stay");
  const gone = store.get("3")!;
  deepEqual([gone.stdoutBytes, gone.loggedBytes], [9000, 0], "it can be told that it was cut");
  // Runs under way that take all the room
  add(store, "a", "b", "c", "d", "e");
  for (const id of ["a", "b", "c", "d", "e"]) store.log(id, "stdout", new Uint8Array(9000));
  ok(bytes() <= limits.logs);
  deepEqual(ids(store.list()).filter((id) => output(store, id) !== ""), ["c", "b", "a", "live"]);
});

Deno.test("the room of logs that went with their runs is free again", () => {
  using store = RunStore.inMemory({ log: 10_000, logs: 30_000, runs: 2 });
  for (let i = 0; i < 10; i++) {
    add(store, `${i}`);
    store.log(`${i}`, "stdout", new Uint8Array(9000));
    end(store, `${i}`);
    deepEqual(
      ids(store.list()).map((id) => output(store, id).length),
      i === 0 ? [9000] : [9000, 9000],
    );
  }
});

Deno.test("what logs take is known again when the store is opened, also after a crash", () =>
  inDirectory(async (path) => {
    const limits = { log: 10_000, logs: 25_000 };
    {
      using store = await RunStore.open(path, limits);
      add(store, "a", "b");
      store.log("a", "stdout", new Uint8Array(9000));
      store.log("b", "stdout", new Uint8Array(9000));
    } // both were under way
    using store = await RunStore.open(path, limits);
    add(store, "c");
    store.log("c", "stdout", new Uint8Array(9000));
    deepEqual([...store.logs("a")], []);
    equal(output(store, "c").length, 9000);
  }));

Deno.test("a message from a guest is kept up to a length", () => {
  using store = RunStore.inMemory();
  add(store, "a");
  store.update("a", { message: "x".repeat(10 << 20), endedAt: 1 });
  equal(store.get("a")!.message?.length, 4096);
});

Deno.test("a follower gets what is there, what comes, and the end", async () => {
  using store = RunStore.inMemory();
  add(store, "a");
  store.log("a", "stdout", utf8.encode("1"));
  const seen: string[] = [];
  const first = Promise.withResolvers<void>();
  const following = (async () => {
    for await (const { data } of store.follow("a", new AbortController().signal)) {
      seen.push(text.decode(data));
      first.resolve();
    }
  })();
  const leaving = new AbortController();
  const left = Array.fromAsync(store.follow("a", leaving.signal));
  await first.promise;
  leaving.abort();
  equal((await left).length, 1);
  for (let i = 2; i < 200; i++) store.log("a", "stdout", utf8.encode(`${i}`));
  end(store, "a");
  await following;
  deepEqual(seen, Array.from({ length: 199 }, (_, i) => `${i + 1}`));
});

Deno.test("a full disk refuses a new run in words, and loses no end", async () => {
  const database = new DatabaseSync(":memory:");
  using store = RunStore.inMemory({}, database);
  add(store, "a", "b");
  const follower = store.follow("a", new AbortController().signal).next();
  database.exec("PRAGMA max_page_count = 1");
  throws(() => {
    for (let i = 0; i < 1000; i++) add(store, `filling-${i}`);
  }, { code: "host", message: /^Cannot start the run filling-\d+: .* full/ });
  const last = {
    state: "failed",
    outcome: "error",
    message: "ü".repeat(4096),
    endedAt: 5,
  } as const;
  throws(() => store.update("a", last), { code: "host", message: /full/ });
  equal(store.get("a")!.endedAt, 5, "told, though not written");
  database.exec("PRAGMA max_page_count = 100000");
  end(store, "b");
  const row = database.prepare("SELECT ended_at, outcome FROM runs WHERE id = 'a'").get();
  deepEqual({ ...row }, { ended_at: 5, outcome: "error" });
  equal((await follower).done, true);
});

Deno.test("a name is one run's while it is under way, and finds the newest that had it", () => {
  using store = RunStore.inMemory();
  const named = (id: string, runName: string | null) => store.add({ ...RUN, id, runName });
  named("a", "web");
  throws(() => named("b", "web"), { code: "conflict", message: /the name web is .* run a,/ });
  equal(store.get("b"), undefined);
  named("c", null);
  named("d", null);
  store.update("a", { state: "done", endedAt: 1 });
  named("b", "web");
  deepEqual(ids(store.list({ name: "web" })), ["b", "a"]);
  deepEqual(store.list({ name: "w" }), []);
  equal(store.get("c")?.runName, null);
});
