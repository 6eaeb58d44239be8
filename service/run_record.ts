/**
 * What is known of a run and of its output.
 *
 * @module
 */

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
  /** Which no other run under way has; null for none. */
  readonly runName: string | null;
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
export type NewRun =
  & Pick<RunRecord, "id" | "workloadName" | "language" | "action" | "memory" | "vcpus">
  & Partial<Pick<RunRecord, "runName">>;

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
