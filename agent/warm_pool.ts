/**
 * Interpreters that wait for a program, at most one for each language.
 *
 * @module
 */
import { goRound } from "./collect.ts";
import { Child, type ChildOptions, type ChildUsage } from "./child.ts";
import type { Language } from "./languages.ts";
import { sameNeeds, type WarmNeeds } from "./warm_needs.ts";
import { spareThreads } from "./spare_threads.ts";
import { encodeWarmJob, type WarmJob, type WarmStart } from "./warm_start.ts";
import { Workspace } from "./workspace.ts";

/** An interpreter that waits for its main file to appear. */
export interface WarmChild {
  readonly child: Child;
  /** Where the program's files belong; those that the interpreter needs are there. */
  readonly workspace: Workspace;
  /** What it knows of the program. */
  readonly needs: WarmNeeds;
  /** What it used before it had anything to run. */
  readonly used: ChildUsage;
  /** Directory of its hook. */
  readonly directory: string;
}

const TICK = 10_000; // microseconds: proc(5), USER_HZ is 100

/** Processor time so far, in ticks of 10 ms. */
function usedBy(pid: number): ChildUsage {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from state, field 3, on
  return {
    userMicros: Number(fields[11]) * TICK,
    systemMicros: Number(fields[12]) * TICK,
    peakBytes: 0,
  };
}

/** The interpreters; see the module. */
export class WarmPool {
  readonly #waiting = new Map<string, WarmChild>();

  /** The last start under way or behind us, by language. */
  readonly #starts = new Map<string, Promise<unknown>>();
  readonly #pids = new Set<number>();

  /** Process ids of those that wait or get ready to. */
  get pids(): ReadonlySet<number> {
    return this.#pids;
  }

  /**
   * Starts the language's interpreter and returns when it waits. One that waits for another program
   * is ended.
   *
   * @param needs what it must know of the program
   * @param directory absolute; nothing is there yet
   * @param environment of a program without variables of its own
   * @returns false when the language has no interpreter that can wait
   */
  async add(
    language: Language,
    needs: WarmNeeds,
    directory: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    const { name, warm } = language;
    if (warm === undefined) return false;
    const added = (this.#starts.get(name) ?? Promise.resolve()).then(async () => {
      const waiting = this.#waiting.get(name);
      if (waiting !== undefined) {
        if (sameNeeds(waiting.needs, needs)) return true;
        this.#remove(language, waiting);
        waiting.child[Symbol.dispose]();
        await Deno.remove(waiting.directory, { recursive: true });
      }
      return await this.#start(language, warm, needs, directory, environment);
    });
    this.#starts.set(name, added.catch(() => {}));
    return await added;
  }

  #remove({ name }: Language, { child }: WarmChild): void {
    this.#waiting.delete(name);
    this.#pids.delete(child.pid);
  }

  async #start(
    language: Language,
    warm: WarmStart,
    needs: WarmNeeds,
    directory: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    const { entryPoint, files } = needs;
    Deno.mkdirSync(directory);
    const workspace = Workspace.create(`${directory}/workload`, files);
    const path = `${directory}/${warm.file}`;
    Deno.writeTextFileSync(path, warm.hook);
    const project = workspace.asProject([], { entryPoint, release: false });
    const command = language.run({ ...project, files: [entryPoint] });
    const start = warm.start(command, path);
    let child: Child;
    try {
      child = Child.spawn({
        command: start.command,
        environment: { ...environment, ...start.environment },
        directory: workspace.project,
        stdin: true,
      });
    } catch { // the image does not have it: whoever wants to run a program is told
      await Deno.remove(directory, { recursive: true });
      return false;
    }
    this.#pids.add(child.pid);
    const event = await child.next();
    if (event.kind !== "stdout") { // it could not start: a program would fail as well, and tell why
      this.#pids.delete(child.pid);
      child[Symbol.dispose]();
      await Deno.remove(directory, { recursive: true });
      return false;
    }
    child.mapCode();
    goRound();
    await spareThreads();
    const used = usedBy(child.pid);
    this.#waiting.set(language.name, { child, workspace, needs, used, directory });
    return true;
  }

  /** The interpreter that can run a program with these needs, if it waits. It is the caller's then. */
  take(language: Language, needs: WarmNeeds): WarmChild | undefined {
    const waiting = this.#waiting.get(language.name);
    if (waiting === undefined || !sameNeeds(waiting.needs, needs)) return undefined;
    this.#remove(language, waiting);
    return waiting;
  }
}

/** Makes a waiting interpreter run the program whose files are in its workspace by now. */
export function release(warm: WarmChild, job: WarmJob): Child {
  void warm.child.write(encodeWarmJob(job)); // were it dead, its exit status would tell
  return warm.child;
}

/** How {@linkcode release} stands in for `Child.spawn`. */
export type Start = () => Child;

/** Starts a program the usual way. */
export function coldStart(options: ChildOptions): Start {
  return () => Child.spawn(options);
}
