/**
 * Workloads that are ready to run: their files are in place, and what had to be built is built.
 *
 * @module
 */
import { CloudletError } from "../base/errors.ts";
import type { File } from "../proto/gen/cloudlet/agent/agent_pb.ts";
import { sameFiles } from "../workload/file_list.ts";
import type { IdleInterpreter } from "./idle_interpreters.ts";
import { canBeIdle } from "../workload/interpreter_needs.ts";
import type { Project } from "../workload/languages.ts";
import type { Job } from "../workload/request.ts";
import type { Workspace } from "./workspace.ts";

/** A workload that is ready to run. */
export interface Prepared {
  /** All that is on disk for it; more than the workspace when an idle interpreter had that. */
  readonly directory: string;
  readonly workspace: Workspace;
  readonly project: Project;
  readonly sources: readonly File[];
  /** The job that prepared it. */
  readonly job: Job;
  /** Undoes what stands in the way of removing the directory. */
  readonly release: () => void;
  /** An idle interpreter for its first run. */
  idle: IdleInterpreter | undefined;
}

/** Those that PREPARE made, by name. */
export class PreparedWorkloads {
  readonly #byName = new Map<string, Prepared>();

  /** Process ids of their idle interpreters. */
  get pids(): number[] {
    return [...this.#byName.values()].flatMap(({ idle }) => idle?.child.pid ?? []);
  }

  /**
   * The workload of the job's name, when it has the same sources and is built in the same way.
   *
   * @throws {CloudletError} `not-found` when the job has no sources and there is none
   */
  find(job: Job): Prepared | undefined {
    const prepared = this.#byName.get(job.workloadName);
    if (job.sources.length === 0) {
      if (prepared !== undefined && prepared.job.language === job.language) return prepared;
      throw new CloudletError(
        `Cannot run the ${job.language.name} workload ${JSON.stringify(job.workloadName)}: ` +
          "it was not prepared and has no source",
        { code: "not-found", remedy: "prepare it first, or send its source" },
      );
    }
    if (
      prepared === undefined || prepared.job.language !== job.language ||
      prepared.job.release !== job.release || prepared.job.entryPoint !== job.entryPoint ||
      !sameVariables(prepared.job.buildEnvironment, job.buildEnvironment)
    ) return undefined;
    return sameFiles(prepared.sources, job.sources) ? prepared : undefined;
  }

  /** Keeps a workload. @returns the earlier one of that name, which the caller owns */
  keep(prepared: Prepared): Prepared | undefined {
    const { workloadName } = prepared.job;
    const earlier = this.#byName.get(workloadName);
    this.#byName.set(workloadName, prepared);
    return earlier;
  }
}

/** The idle interpreter of a workload, which the caller owns; one that cannot run the job is ended. */
export function takeInterpreter(prepared: Prepared, job: Job): IdleInterpreter | undefined {
  const { idle } = prepared;
  prepared.idle = undefined;
  if (idle === undefined || canBeIdle(job)) return idle;
  idle.child[Symbol.dispose]();
  return undefined;
}

function sameVariables(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>,
): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
