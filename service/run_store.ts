/**
 * The runs of a service, their state and the beginning of their output, in SQLite.
 *
 * A store on disk survives a restart; a run that a crash cut off is found by the next start, which
 * marks it `interrupted`. Only one process at a time has a store open. Its size is bounded: by the
 * number of runs, by the bytes of one log, and by those of all logs together, of which the oldest
 * are removed.
 *
 * @module
 */
import { dirname } from "node:path";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { CloudletError, messageOf } from "../base/errors.ts";
import { waitForLock } from "../base/files.ts";
import type {
  LogEntry,
  LogStream,
  NewRun,
  RunChange,
  RunOutcome,
  RunRecord,
  RunState,
} from "./run_record.ts";
import { type LogLimits, RunLogs } from "./run_logs.ts";
import { COLUMNS, ENTRY_COST, migrate } from "./run_schema.ts";

export type {
  LogEntry,
  LogStream,
  NewRun,
  RunChange,
  RunOutcome,
  RunRecord,
  RunState,
} from "./run_record.ts";

/** How much a store keeps. */
export interface StoreLimits extends LogLimits {
  /** Runs; those under way count, but are never removed. */
  readonly runs: number;
}

/** Which runs {@linkcode RunStore.page} lists. */
export interface ListOptions {
  /** Only those in this state. */
  readonly state?: RunState | undefined;
  /** Only those that have this name. */
  readonly name?: string | undefined;
  /** Most runs of the page; 100 when absent. */
  readonly limit?: number;
  /** Only those older than this time, in milliseconds since 1970, in the order of their age. */
  readonly before?: number | undefined;
  /** Goes on after the page that had this as its `next`. */
  readonly after?: string | undefined;
}

/** Some of the runs. */
export interface RunPage {
  readonly runs: RunRecord[];
  /** For {@linkcode ListOptions.after}; undefined when no more runs follow. */
  readonly next: string | undefined;
}

const DEFAULT_LIMITS: StoreLimits = { log: 4 << 20, logs: 1 << 30, runs: 10_000 };
const MEMORY_LIMITS: StoreLimits = { log: 1 << 16, logs: 1 << 22, runs: 100 };
/** Characters of a message that are kept: a hostile guest may have written it. */
const MAX_MESSAGE = 4096;
/** Milliseconds in which a child that was forked executes. */
const FORKED = 500;
const SELECT = `SELECT ${Object.entries(COLUMNS).map(([k, c]) => `${c} AS ${k}`).join(", ")}`;

/** Runs and their logs. */
export class RunStore implements Disposable {
  readonly #database: DatabaseSync;
  readonly #lock: Deno.FsFile | undefined;
  readonly #limits: StoreLimits;
  readonly #logs: RunLogs;
  /** Last changes of runs for which there was no room, written down when there is some. */
  readonly #owed = new Map<string, RunChange>();
  readonly #statements = new Map<string, StatementSync>();

  private constructor(
    database: DatabaseSync,
    path: string,
    lock: Deno.FsFile | undefined,
    limits: StoreLimits,
  ) {
    this.#lock = lock;
    this.#limits = limits;
    this.#database = database;
    try {
      database.exec("PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000");
      if (lock !== undefined) {
        // A crash of the process loses nothing; one of the host may lose the last moments.
        database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
      }
      migrate(database, path);
      this.#prepare(
        `UPDATE runs SET state = 'failed', outcome = 'interrupted', ended_at = ?,
           message = 'the service ended before the run did',
           log_cost = (SELECT coalesce(sum(length(data) + ${ENTRY_COST}), 0)
             FROM logs WHERE run = runs.id) WHERE ended_at IS NULL`,
      ).run(Date.now());
      this.#logs = new RunLogs(database, (sql) => this.#prepare(sql), limits);
      this.#prune();
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /**
   * Opens the store in the file `path`, which is made when missing.
   *
   * @throws {CloudletError} `conflict` when another process has it open, or when a newer cloudlet wrote
   *   it
   */
  static async open(
    path: string,
    limits: Partial<StoreLimits> = {},
  ): Promise<RunStore> {
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // A file of its own: closing any descriptor of the database would drop SQLite's POSIX locks.
    const lock = await Deno.open(`${path}.lock`, { create: true, write: true, mode: 0o600 });
    try {
      if (!(await lockedSoon(lock))) {
        throw new CloudletError(
          `Cannot open the store of runs ${path}: another cloudlet server has it open`,
          { code: "conflict", remedy: "stop the other server, or give --state another directory" },
        );
      }
      return new RunStore(new DatabaseSync(path), path, lock, { ...DEFAULT_LIMITS, ...limits });
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /**
   * A store that ends with the process.
   *
   * @param database in memory; a new one when absent
   */
  static inMemory(
    limits: Partial<StoreLimits> = {},
    database: DatabaseSync = new DatabaseSync(":memory:"),
  ): RunStore {
    return new RunStore(database, ":memory:", undefined, { ...MEMORY_LIMITS, ...limits });
  }

  /**
   * Records a new run.
   *
   * @throws {CloudletError} `conflict` when there was one with this id or one under way has this name,
   *   `host` when the disk is full
   */
  add(run: NewRun): void {
    if (this.get(run.id) !== undefined) {
      throw new CloudletError(`Cannot start the run ${run.id}: there is one with this id`, {
        code: "conflict",
        remedy: "choose another id, or none",
      });
    }
    this.#payOwed();
    const { runName = null } = run;
    const [other] = runName === null ? [] : this.list({ name: runName, limit: 1 });
    if (other?.endedAt === null) {
      throw new CloudletError(
        `Cannot start the run: the name ${runName} is that of the run ${other.id}, which is under way`,
        { code: "conflict", remedy: "choose another name, or end that run first" },
      );
    }
    try {
      this.#prepare(
        `INSERT INTO runs (id, run_name, workload_name, language, action, state, memory, vcpus, created_at)
         VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?)`,
      ).run(
        run.id,
        runName,
        run.workloadName,
        run.language,
        run.action,
        run.memory,
        run.vcpus,
        Date.now(),
      );
    } catch (cause) {
      throw new CloudletError(
        `Cannot start the run ${run.id}: it cannot be written down: ${messageOf(cause)}`,
        { code: "host", remedy: "free some disk space where the server keeps its state", cause },
      );
    }
    this.#logs.begin(run.id);
  }

  /**
   * Records what changed; a change with `endedAt` is the last one, and is not lost when it cannot be
   * written now.
   *
   * @throws {CloudletError} `host` when the disk is full
   */
  update(id: string, change: RunChange): void {
    const last = change.endedAt !== undefined;
    const message = change.message?.slice(0, MAX_MESSAGE);
    const all = { ...change, ...(message && { message }), ...this.#logs.counts(id) };
    try {
      this.#write(id, all);
    } catch (cause) {
      if (last) this.#owed.set(id, all);
      throw new CloudletError(`Cannot write down the run ${id}: ${messageOf(cause)}`, {
        code: "host",
        remedy: "free some disk space where the server keeps its state",
        cause,
      });
    } finally {
      if (last) this.#logs.end(id);
    }
    if (!last) return;
    this.#payOwed();
    this.#prune();
  }

  #write(id: string, change: RunChange): void {
    const values = Object.entries(change).filter(([, value]) => value !== undefined);
    if (values.length === 0) return;
    const set = values.map(([key]) => `${COLUMNS[key as keyof RunRecord]} = ?`).join(", ");
    this.#prepare(`UPDATE runs SET ${set}, log_cost = ? WHERE id = ?`)
      .run(...values.map(([, value]) => value as string | number | null), this.#logs.cost(id), id);
  }

  /** Writes down the ends for which there was no room. */
  #payOwed(): void {
    for (const [id, change] of this.#owed) {
      try {
        this.#write(id, change);
      } catch {
        return; // there still is none
      }
      this.#owed.delete(id);
    }
  }

  /** What is known of a run, or undefined. */
  get(id: string): RunRecord | undefined {
    const row = this.#prepare(`${SELECT} FROM runs WHERE id = ?`).get(id);
    return row === undefined ? undefined : this.#record(row);
  }

  /**
   * Some of the runs: those under way first, then the others, the newest first. A run that ends
   * between two pages may be on both, and none is on neither.
   *
   * @throws {CloudletError} `invalid-input` when `after` is not the `next` of a page
   */
  page(options: ListOptions = {}): RunPage {
    const { state, name, limit = 100, before, after } = options;
    const from = after === undefined ? [null, null, null] : readCursor(after);
    // A page by time is as it always was: those under way are not put first.
    const underWay = before === undefined ? "ended_at IS NULL" : "created_at IS NULL";
    const rows = this.#prepare(
      `${SELECT}, ${underWay} AS underWay, rowid AS number FROM runs
       WHERE (?1 IS NULL OR state = ?1) AND (?7 IS NULL OR run_name = ?7) AND (?2 IS NULL OR created_at < ?2)
         AND (?3 IS NULL OR (${underWay}, created_at, rowid) < (?3, ?4, ?5))
       ORDER BY ${underWay} DESC, created_at DESC, rowid DESC LIMIT ?6`,
    ).all(
      state ?? null,
      before ?? null,
      ...from as [number, number, number],
      limit + 1,
      name ?? null,
    );
    const last = rows.length > limit ? rows[limit - 1] : undefined;
    return {
      runs: rows.slice(0, limit).map(({ underWay: _, number: __, ...row }) => this.#record(row)),
      next: last && `${last.underWay}.${last.createdAt}.${last.number}`,
    };
  }

  /** The runs of a page; see {@linkcode page}. */
  list(options: ListOptions = {}): RunRecord[] {
    return this.page(options).runs;
  }

  /** How many runs are in each state and ended in each way. */
  counts(): { state: RunState; outcome: RunOutcome | null; count: number }[] {
    return this.#prepare(
      "SELECT state, outcome, count(*) AS count FROM runs GROUP BY state, outcome",
    ).all() as { state: RunState; outcome: RunOutcome | null; count: number }[];
  }

  /** Keeps a piece of output; see {@linkcode RunLogs.write}. */
  log(id: string, stream: LogStream, data: Uint8Array): void {
    this.#logs.write(id, stream, data);
  }

  /** The pieces of a run's output from the number `from` on, in their order without a gap. */
  logs(id: string, from = 0): Generator<LogEntry> {
    return this.#logs.entries(id, from);
  }

  /** The same, and then those that come; see {@linkcode RunLogs.follow}. */
  follow(id: string, signal: AbortSignal, from = 0): AsyncGenerator<LogEntry> {
    return this.#logs.follow(id, signal, from);
  }

  /** Closes the store. */
  [Symbol.dispose](): void {
    this.#statements.clear();
    this.#database.close();
    // Closing is not enough: a process that is being started has a copy until its exec.
    this.#lock?.unlockSync();
    this.#lock?.close();
  }

  #record(row: Record<string, SQLOutputValue>): RunRecord {
    const id = String(row.id);
    return { ...row, ...this.#owed.get(id), ...this.#logs.counts(id) } as unknown as RunRecord;
  }

  /** Removes the oldest runs; on a full disk that has to wait. */
  #prune(): void {
    try {
      const removed = this.#prepare(
        `DELETE FROM runs WHERE ended_at IS NOT NULL AND (created_at, rowid) <= (
           SELECT created_at, rowid FROM runs ORDER BY created_at DESC, rowid DESC
           LIMIT 1 OFFSET ?) RETURNING log_cost AS cost`,
      ).all(this.#limits.runs);
      for (const { cost } of removed) this.#logs.removed(Number(cost));
    } catch {
      // the next run that ends tries again
    }
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

function readCursor(text: string): number[] {
  if (/^[01]\.\d{1,15}\.\d{1,15}$/.test(text)) return text.split(".").map(Number);
  throw new CloudletError(`Cannot list runs after ${JSON.stringify(text)}: no page ended there`, {
    code: "invalid-input",
    remedy: "use what the page before gave",
  });
}

/**
 * Locks a file. A child of this process has its descriptors for a moment, from its fork until it executes,
 * and with them a lock that was given up just now.
 */
async function lockedSoon(file: Deno.FsFile): Promise<boolean> {
  try {
    await waitForLock(file, AbortSignal.timeout(FORKED));
    return true;
  } catch {
    return false;
  }
}
