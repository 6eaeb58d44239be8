/**
 * Ends what programs left behind in sessions of their own.
 *
 * The agent is a "child subreaper" (prctl(2)): a descendant whose parent ends becomes the agent's
 * own child, and so can be found and reaped, whatever it did to get away.
 *
 * @module
 */
import { libc, PR_SET_CHILD_SUBREAPER, SIGNAL_NUMBERS } from "./libc.ts";

const ROUNDS = 20;

/** Makes orphaned descendants children of this process. */
export function adoptOrphans(): void {
  libc().prctl(PR_SET_CHILD_SUBREAPER, 1n, 0n, 0n, 0n);
}

/** What /proc tells of every process: its id, and the fields of its `stat` from the state on. */
function* processes(): Generator<[pid: number, fields: readonly string[]]> {
  for (const { name } of Deno.readDirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    let stat: string;
    try {
      stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    } catch {
      continue; // it ended meanwhile
    }
    // proc(5): pid (comm) state ppid pgrp session ...; comm may hold spaces and parentheses
    yield [pid, stat.slice(stat.lastIndexOf(")") + 2).split(" ")];
  }
}

/** Every process's parent. */
function parents(): Map<number, number> {
  return new Map(processes().map(([pid, [, parent]]) => [pid, Number(parent)]));
}

/** As {@linkcode processes}, of a session or of its leader's group. */
function ofSession(leader: number) {
  return processes().filter(([, [, , group, session]]) =>
    Number(session) === leader || Number(group) === leader
  );
}

/** Process ids of a session, or of its leader's group. */
export function sessionMembers(leader: number): number[] {
  return Array.from(ofSession(leader), ([pid]) => pid);
}

/** What the processes of a session, or of its leader's group, do. */
export interface SessionActivity {
  /** Whether one has a processor, or wants one. */
  readonly runs: boolean;
  /** Another one after any of them has run, started or ended. */
  readonly mark: string;
}

/** Looks at a session; see {@linkcode SessionActivity}. */
export function sessionActivity(leader: number): SessionActivity {
  let runs = false;
  let mark = "";
  for (const [pid, fields] of ofSession(leader)) {
    const [state] = fields;
    runs ||= state === "R" || state === "D";
    const [faults, user, system] = [7, 11, 12].map((index) => fields[index]); // proc(5): 10, 14, 15
    mark += `${pid} ${faults} ${user} ${system};`;
  }
  return { runs, mark };
}

/**
 * Kills and reaps all descendants of this process but those below `spared`.
 *
 * @param spared process ids of children that live on, with all that they started
 * @returns how many were found
 */
export function endDescendants(spared: ReadonlySet<number>): number {
  const c = libc();
  let count = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const parentOf = parents();
    const verdicts = new Map<number, boolean>([[Deno.pid, true]]);
    const isOurs = (pid: number): boolean => {
      const known = verdicts.get(pid);
      if (known !== undefined) return known;
      const parent = parentOf.get(pid);
      const verdict = parent !== undefined && !spared.has(pid) && isOurs(parent);
      verdicts.set(pid, verdict);
      return verdict;
    };
    const left = [...parentOf.keys()].filter((pid) => pid !== Deno.pid && isOurs(pid));
    if (left.length === 0) break;
    count += left.length;
    for (const pid of left) c.kill(pid, SIGNAL_NUMBERS.KILL);
    for (const pid of left) {
      // Only one's own children can be waited for; the others become so when their parents end.
      if (parentOf.get(pid) === Deno.pid) c.wait4(pid, new Uint8Array(4), 0, new Uint8Array(144));
    }
  }
  return count;
}
