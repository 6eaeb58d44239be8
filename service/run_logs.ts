/**
 * The output of runs in the store: the beginning of each, with a bound on all of it together.
 *
 * @module
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { CloudletError, messageOf } from "../base/errors.ts";
import type { LogEntry, LogStream, RunRecord } from "./run_record.ts";
import { ENTRY_COST } from "./run_schema.ts";

/** How much output is kept. */
export interface LogLimits {
  /** Bytes of output of one run; each piece counts 64 bytes more. */
  readonly log: number;
  /**
   * Bytes of output of all runs together, counted alike. The logs of the runs that began first are
   * removed first, unless they are under way; their records stay.
   */
  readonly logs: number;
}

/** When old logs are removed, this part of the room becomes free. */
const FREED = 1 / 8;

/** What is counted of a run under way. */
interface Live {
  entries: number;
  cost: number;
  stdoutBytes: number;
  stderrBytes: number;
  loggedBytes: number;
}

/** See the module. */
export class RunLogs {
  readonly #database: DatabaseSync;
  readonly #prepare: (sql: string) => StatementSync;
  readonly #limits: LogLimits;
  readonly #live = new Map<string, Live>();
  /** Wakes those who follow a run. */
  readonly #followers = new Map<string, Set<() => void>>();
  /** Bytes that all logs take. */
  #kept: number;

  /**
   * @param database with the newest tables
   * @param prepare of the same database
   */
  constructor(
    database: DatabaseSync,
    prepare: (sql: string) => StatementSync,
    limits: LogLimits,
  ) {
    this.#database = database;
    this.#prepare = prepare;
    this.#limits = limits;
    this.#kept = Number(prepare("SELECT sum(log_cost) AS kept FROM runs").get()?.kept ?? 0);
  }

  /** Begins to count what a run writes. */
  begin(id: string): void {
    this.#live.set(id, { entries: 0, cost: 0, stdoutBytes: 0, stderrBytes: 0, loggedBytes: 0 });
  }

  /** Ends it, and the followers of the run. */
  end(id: string): void {
    this.#live.delete(id);
    this.#wake(id);
  }

  /** Logs were removed with their runs. */
  removed(cost: number): void {
    this.#kept -= cost;
  }

  /** What a run under way has written so far; nothing of others. */
  counts(id: string): Partial<Pick<RunRecord, "stdoutBytes" | "stderrBytes" | "loggedBytes">> {
    const live = this.#live.get(id);
    if (live === undefined) return {};
    const { stdoutBytes, stderrBytes, loggedBytes } = live;
    return { stdoutBytes, stderrBytes, loggedBytes };
  }

  /** Bytes that a log takes. */
  cost(id: string): number {
    const live = this.#live.get(id);
    if (live !== undefined) return live.cost;
    const sql = `SELECT sum(length(data) + ${ENTRY_COST}) AS cost FROM logs WHERE run = ?`;
    return Number(this.#prepare(sql).get(id)?.cost ?? 0);
  }

  /**
   * Keeps a piece of output, as long as there is room.
   *
   * @throws {CloudletError} `host` when the disk is full; the piece is counted, but not kept
   */
  write(id: string, stream: LogStream, data: Uint8Array): void {
    const live = this.#live.get(id);
    if (live === undefined || data.length === 0) return;
    if (stream === "stdout") live.stdoutBytes += data.length;
    if (stream === "stderr") live.stderrBytes += data.length;
    const room = this.#limits.log - live.cost - ENTRY_COST;
    if (room <= 0) return;
    const kept = data.subarray(0, room);
    const cost = kept.length + ENTRY_COST;
    try {
      if (!this.#makeRoom(cost)) return;
      this.#prepare("INSERT INTO logs (run, number, time, stream, data) VALUES (?, ?, ?, ?, ?)")
        .run(id, live.entries, Date.now(), stream, kept);
    } catch (cause) {
      throw new CloudletError(`Cannot keep output of the run ${id}: ${messageOf(cause)}`, {
        code: "host",
        remedy: "free some disk space where the server keeps its state",
        cause,
      });
    }
    live.entries++;
    live.cost += cost;
    this.#kept += cost;
    if (stream !== "service") live.loggedBytes += kept.length;
    this.#wake(id);
  }

  /** Removes the oldest logs until there is room; false when the runs under way take it all. */
  #makeRoom(cost: number): boolean {
    const { logs } = this.#limits;
    if (this.#kept + cost <= logs) return true;
    this.#database.exec("BEGIN");
    try {
      let kept = this.#kept;
      while (kept + cost > logs * (1 - FREED)) {
        const oldest = this.#prepare(
          `SELECT id, log_cost AS cost FROM runs WHERE log_cost > 0 AND ended_at IS NOT NULL
           ORDER BY created_at, rowid LIMIT 1`,
        ).get();
        if (oldest === undefined) break;
        this.#prepare("DELETE FROM logs WHERE run = ?").run(oldest.id!);
        // Less is kept than was written, which says that the log is cut.
        this.#prepare("UPDATE runs SET log_cost = 0, logged_bytes = 0 WHERE id = ?")
          .run(oldest.id!);
        kept -= Number(oldest.cost);
      }
      this.#database.exec("COMMIT");
      this.#kept = kept;
    } finally {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
    }
    return this.#kept + cost <= logs;
  }

  /** The pieces of a run's output from the number `from` on, in their order. */
  *entries(id: string, from = 0): Generator<LogEntry> {
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
   * @param from number of the first piece
   */
  async *follow(id: string, signal: AbortSignal, from = 0): AsyncGenerator<LogEntry> {
    for (let next = from; !signal.aborted;) {
      const live = this.#live.has(id); // asked first: nothing is written after the end
      for (const entry of this.entries(id, next)) {
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
}
