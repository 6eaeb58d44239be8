/**
 * The runs of a service, their state and the beginning of their output, in SQLite.
 *
 * A store on disk survives a restart; a run that a crash cut off is found by the next start, which
 * marks it `interrupted`. Only one process at a time has a store open.
 *
 * @module
 */
import { dirname } from "node:path";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { CloudletError } from "../../base/errors.ts";

/** How far a run is. */
export type RunState = "pending" | "building" | "running" | "done" | "failed";

/** How a run ended: as the agent says (proto Outcome.Kind), or what the service knows better. */
export type RunOutcome =
  | "exited"
  | "signaled"
  | "timed-out"
  | "out-of-memory"
  | "killed"
  | "build-failed"
  | "not-started"
  | "prepared"
  | "stopped" // by Shutdown, or because the service ended
  | "disconnected" // the client left
  | "refused" // there was no place for it
  | "error" // the microVM failed
  | "interrupted"; // the service died

/** What is known of a run. Times are milliseconds since 1970, memory is in MiB. */
export interface RunRecord {
  readonly id: string;
  readonly workloadName: string;
  readonly language: string;
  readonly action: string;
  readonly state: RunState;
  readonly outcome: RunOutcome | null;
  readonly exitCode: number | null;
  /** Why it ended, in words. */
  readonly message: string | null;
  readonly memory: number;
  readonly vcpus: number;
  readonly createdAt: number;
  /** When the agent took the workload. */
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** Bytes of output that are kept. */
  readonly loggedBytes: number;
  /** Milliseconds that the program ran, and that it used the processor. */
  readonly wallTime: number | null;
  readonly userTime: number | null;
  readonly systemTime: number | null;
  /** Largest resident set of one process, in bytes. */
  readonly peakMemory: number | null;
}

/** What is known of a run when it begins. */
export type NewRun = Pick<
  RunRecord,
  "id" | "workloadName" | "language" | "action" | "memory" | "vcpus"
>;

/** What can change of a run. */
export type RunChange = Partial<Omit<RunRecord, keyof NewRun | "createdAt">>;

/** A stream of a run's log: the program's two, and what the service says about it. */
export type LogStream = "stdout" | "stderr" | "service";

/** A piece of output. */
export interface LogEntry {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly stream: LogStream;
  readonly data: Uint8Array;
}

/** How much a store keeps. */
export interface StoreLimits {
  /** Bytes of output of one run; each piece counts 64 bytes more. */
  readonly log: number;
  /** Ended runs. */
  readonly runs: number;
}

const COLUMNS: Record<keyof RunRecord, string> = {
  id: "id",
  workloadName: "workload_name",
  language: "language",
  action: "action",
  state: "state",
  outcome: "outcome",
  exitCode: "exit_code",
  message: "message",
  memory: "memory",
  vcpus: "vcpus",
  createdAt: "created_at",
  startedAt: "started_at",
  endedAt: "ended_at",
  stdoutBytes: "stdout_bytes",
  stderrBytes: "stderr_bytes",
  loggedBytes: "logged_bytes",
  wallTime: "wall_time",
  userTime: "user_time",
  systemTime: "system_time",
  peakMemory: "peak_memory",
};

const VERSION = 1; // of the schema, in PRAGMA user_version
const SCHEMA = `
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
`;
const SELECT = `SELECT ${Object.entries(COLUMNS).map(([k, c]) => `${c} AS ${k}`).join(", ")}`;
const ENTRY_COST = 64; // what a row costs besides its data, about

interface Live {
  entries: number;
  cost: number;
  stdoutBytes: number;
  stderrBytes: number;
  loggedBytes: number;
}

/** Runs and their logs. */
export class RunStore implements Disposable {
  readonly #database: DatabaseSync;
  readonly #lock: Deno.FsFile | undefined;
  readonly #limits: StoreLimits;
  readonly #live = new Map<string, Live>();
  readonly #statements = new Map<string, StatementSync>();
  /** Wakes those who follow a run. */
  readonly #followers = new Map<string, Set<() => void>>();

  private constructor(path: string, lock: Deno.FsFile | undefined, limits: StoreLimits) {
    this.#lock = lock;
    this.#limits = limits;
    this.#database = new DatabaseSync(path);
    this.#database.exec("PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000");
    if (lock !== undefined) {
      // A crash of the process loses nothing; one of the host may lose the last moments.
      this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    }
    const version = this.#database.prepare("PRAGMA user_version").get()?.user_version;
    if (version === 0) {
      this.#database.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${VERSION}; COMMIT`);
    } else if (version !== VERSION) {
      this.#database.close();
      throw new CloudletError(
        `Cannot open the store of runs ${path}: it has version ${version}, not ${VERSION}`,
        { code: "conflict", remedy: "move the file away, or use the cloudlet that wrote it" },
      );
    }
    this.#prepare(
      `UPDATE runs SET state = 'failed', outcome = 'interrupted', ended_at = ?,
         message = 'the service ended before the run did' WHERE ended_at IS NULL`,
    ).run(Date.now());
    this.#prune();
  }

  /**
   * Opens the store in the file `path`, which is made when missing.
   *
   * @throws {CloudletError} `conflict` when another process has it open
   */
  static async open(
    path: string,
    limits: StoreLimits = { log: 4 << 20, runs: 10_000 },
  ): Promise<RunStore> {
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // A file of its own: closing any descriptor of the database would drop SQLite's POSIX locks.
    const lock = await Deno.open(`${path}.lock`, { create: true, write: true, mode: 0o600 });
    try {
      if (!(await lock.tryLock(true))) {
        throw new CloudletError(
          `Cannot open the store of runs ${path}: another cloudlet server has it open`,
          { code: "conflict", remedy: "stop the other server, or give --state another directory" },
        );
      }
      return new RunStore(path, lock, limits);
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /** A store that ends with the process. */
  static inMemory(limits: StoreLimits = { log: 1 << 16, runs: 100 }): RunStore {
    return new RunStore(":memory:", undefined, limits);
  }

  /**
   * Notes a new run.
   *
   * @throws {CloudletError} `conflict` when there was one with this id
   */
  add(run: NewRun): void {
    if (this.get(run.id) !== undefined) {
      throw new CloudletError(`Cannot start the run ${run.id}: there is one with this id`, {
        code: "conflict",
        remedy: "choose another id, or none",
      });
    }
    this.#prepare(
      `INSERT INTO runs (id, workload_name, language, action, state, memory, vcpus, created_at)
       VALUES (?, ?, ?, ?, 'pending', ?, ?, ?)`,
    ).run(
      run.id,
      run.workloadName,
      run.language,
      run.action,
      run.memory,
      run.vcpus,
      Date.now(),
    );
    this.#live.set(run.id, {
      entries: 0,
      cost: 0,
      stdoutBytes: 0,
      stderrBytes: 0,
      loggedBytes: 0,
    });
  }

  /** Notes what changed; a change with `endedAt` is the last one. */
  update(id: string, change: RunChange): void {
    const { stdoutBytes, stderrBytes, loggedBytes } = this.#live.get(id) ??
      { stdoutBytes: undefined, stderrBytes: undefined, loggedBytes: undefined };
    const all = Object.entries({ ...change, stdoutBytes, stderrBytes, loggedBytes })
      .filter(([, value]) => value !== undefined);
    if (all.length === 0) return;
    const set = all.map(([key]) => `${COLUMNS[key as keyof RunRecord]} = ?`).join(", ");
    this.#prepare(`UPDATE runs SET ${set} WHERE id = ?`)
      .run(...all.map(([, value]) => value as string | number | null), id);
    if (change.endedAt !== undefined) {
      this.#live.delete(id);
      this.#prune();
      this.#wake(id);
    }
  }

  /** Keeps a piece of output, as long as the run's share is not used up. */
  log(id: string, stream: LogStream, data: Uint8Array): void {
    const live = this.#live.get(id);
    if (live === undefined || data.length === 0) return;
    if (stream === "stdout") live.stdoutBytes += data.length;
    if (stream === "stderr") live.stderrBytes += data.length;
    const room = this.#limits.log - live.cost - ENTRY_COST;
    if (room <= 0) return;
    const kept = data.subarray(0, room);
    live.cost += kept.length + ENTRY_COST;
    if (stream !== "service") live.loggedBytes += kept.length;
    this.#prepare("INSERT INTO logs (run, number, time, stream, data) VALUES (?, ?, ?, ?, ?)")
      .run(id, live.entries++, Date.now(), stream, kept);
    this.#wake(id);
  }

  /** What is known of a run, or undefined. */
  get(id: string): RunRecord | undefined {
    const row = this.#prepare(`${SELECT} FROM runs WHERE id = ?`).get(id);
    return row === undefined ? undefined : this.#record(row);
  }

  /**
   * Runs, the newest first.
   *
   * @param options only those in a state, how many, and of those older than a time
   */
  list(
    options: { state?: RunState | undefined; limit?: number; before?: number | undefined } = {},
  ): RunRecord[] {
    const { state, limit = 100, before } = options;
    return this.#prepare(
      `${SELECT} FROM runs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR created_at < ?2)
       ORDER BY created_at DESC, rowid DESC LIMIT ?3`,
    ).all(state ?? null, before ?? null, limit).map((row) => this.#record(row));
  }

  /** How many runs are in each state and ended in each way. */
  counts(): { state: RunState; outcome: RunOutcome | null; count: number }[] {
    return this.#prepare(
      "SELECT state, outcome, count(*) AS count FROM runs GROUP BY state, outcome",
    ).all() as { state: RunState; outcome: RunOutcome | null; count: number }[];
  }

  /** The pieces of a run's output from the number `from` on, in their order. */
  *logs(id: string, from = 0): Generator<LogEntry> {
    // In portions, so that a reader may stop in the middle and writers go on meanwhile.
    for (let next = from;;) {
      const rows = this.#prepare(
        `SELECT time, stream, data FROM logs WHERE run = ? AND number >= ?
         ORDER BY number LIMIT 64`,
      ).all(id, next);
      for (const row of rows) yield row as unknown as LogEntry;
      if (rows.length < 64) return;
      next += rows.length;
    }
  }

  /**
   * The same, and then those that come, until the run ends or is forgotten. A slow reader costs no
   * memory: what it has not read is in the store.
   *
   * @param signal ends it early
   */
  async *follow(id: string, signal: AbortSignal): AsyncGenerator<LogEntry> {
    for (let next = 0; !signal.aborted;) {
      const live = this.#live.has(id); // asked first: nothing is written after the end
      for (const entry of this.logs(id, next)) {
        next++;
        yield entry;
        if (signal.aborted) return;
      }
      if (!live) return;
      await this.#written(id, next, signal);
    }
  }

  /** Waits until the run has more than `count` entries, or has ended. */
  async #written(id: string, count: number, signal: AbortSignal): Promise<void> {
    const live = this.#live.get(id);
    if (live === undefined || live.entries > count || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const followers = this.#followers.get(id) ?? new Set();
    this.#followers.set(id, followers.add(resolve));
    signal.addEventListener("abort", resolve as () => void);
    await promise;
    signal.removeEventListener("abort", resolve as () => void);
    followers.delete(resolve);
    if (followers.size === 0) this.#followers.delete(id);
  }

  #wake(id: string): void {
    for (const wake of this.#followers.get(id) ?? []) wake();
  }

  /** Closes the store. */
  [Symbol.dispose](): void {
    this.#statements.clear();
    this.#database.close();
    this.#lock?.close();
  }

  #record(row: Record<string, SQLOutputValue>): RunRecord {
    const record = { ...row } as unknown as RunRecord;
    const live = this.#live.get(record.id);
    if (live === undefined) return record;
    const { stdoutBytes, stderrBytes, loggedBytes } = live;
    return { ...record, stdoutBytes, stderrBytes, loggedBytes };
  }

  #prune(): void {
    this.#prepare(
      `DELETE FROM runs WHERE ended_at IS NOT NULL AND created_at < (
         SELECT created_at FROM runs ORDER BY created_at DESC LIMIT 1 OFFSET ?)`,
    ).run(this.#limits.runs);
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}
