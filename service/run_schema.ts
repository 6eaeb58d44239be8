/**
 * The tables of the store of runs, and the steps from each version of them to the next.
 *
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { CloudletError } from "../base/errors.ts";
import type { RunRecord } from "./run_record.ts";

/** The column of each member of a record. */
export const COLUMNS: Record<keyof RunRecord, string> = {
  id: "id",
  runName: "run_name",
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

/** What a row of `logs` costs besides its data, in bytes, about. */
export const ENTRY_COST = 64;

/** Step n leads from version n to version n + 1 (PRAGMA user_version). A released one never changes. */
const MIGRATIONS: readonly string[] = [
  // 1: runs and their logs
  `
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
`,
  // 2: what a log takes, so that all logs together have a bound; runs under way are listed first
  `
  ALTER TABLE runs ADD COLUMN log_cost INTEGER NOT NULL DEFAULT 0;
  UPDATE runs SET log_cost =
    (SELECT coalesce(sum(length(data) + ${ENTRY_COST}), 0) FROM logs WHERE run = runs.id);
  CREATE INDEX runs_with_logs ON runs (created_at) WHERE log_cost > 0;
  CREATE INDEX runs_by_progress ON runs (ended_at IS NULL, created_at);
  `,
  // 3: names of runs, each of one run under way
  `
  ALTER TABLE runs ADD COLUMN run_name TEXT;
  CREATE INDEX runs_by_name ON runs (run_name) WHERE run_name IS NOT NULL;
  `,
];

/**
 * Brings a database to the newest version; one step is one transaction.
 *
 * @param path for the error
 * @throws {CloudletError} `conflict` when a newer cloudlet wrote it
 */
export function migrate(database: DatabaseSync, path: string): void {
  const version = Number(database.prepare("PRAGMA user_version").get()?.user_version);
  if (version > MIGRATIONS.length) {
    throw new CloudletError(
      `Cannot open the store of runs ${path}: it has version ${version}, and this cloudlet knows ` +
        `${MIGRATIONS.length}`,
      { code: "conflict", remedy: "move the file away, or use the cloudlet that wrote it" },
    );
  }
  for (const [i, step] of MIGRATIONS.entries()) {
    if (i < version) continue;
    try {
      database.exec(`BEGIN; ${step}; PRAGMA user_version = ${i + 1}; COMMIT`);
    } catch (error) {
      if (database.isTransaction) database.exec("ROLLBACK");
      throw error;
    }
  }
}
