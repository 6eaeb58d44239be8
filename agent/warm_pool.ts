/**
 * Interpreters that wait for a program, at most one for each language.
 *
 * @module
 */
import { Child, type ChildOptions, type ChildUsage } from "./child.ts";
import type { Language } from "./languages.ts";
import { encodeWarmJob, type WarmJob, type WarmStart } from "./warm_start.ts";
import { Workspace } from "./workspace.ts";

/** An interpreter that waits for its main file to appear. */
export interface WarmChild {
  readonly child: Child;
  /** Empty; the program's files belong there. */
  readonly workspace: Workspace;
  /** The command that it carries out. */
  readonly command: readonly string[];
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

  readonly #starting = new Map<string, Promise<boolean>>();
  readonly #pids = new Set<number>();

  /** Process ids of those that wait or get ready to. */
  get pids(): ReadonlySet<number> {
    return this.#pids;
  }

  /**
   * Starts the language's interpreter and returns when it waits.
   *
   * @param directory absolute; nothing is there yet
   * @param environment of a program without variables of its own
   * @returns false when the language has no interpreter that can wait
   */
  async add(
    language: Language,
    directory: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    const { warm } = language;
    if (warm === undefined) return false;
    if (this.#waiting.has(language.name)) return true;
    let starting = this.#starting.get(language.name);
    if (starting === undefined) {
      starting = this.#start(language, warm, directory, environment);
      this.#starting.set(language.name, starting);
      starting.finally(() => this.#starting.delete(language.name)).catch(() => {});
    }
    return await starting;
  }

  async #start(
    language: Language,
    warm: WarmStart,
    directory: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    Deno.mkdirSync(directory);
    const workspace = Workspace.create(`${directory}/workload`, []);
    const path = `${directory}/${warm.file}`;
    Deno.writeTextFileSync(path, warm.hook);
    const project = workspace.asProject([], { entryPoint: undefined, release: false });
    const command = language.run({ ...project, files: [language.sourceFile] });
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
    const used = usedBy(child.pid);
    this.#waiting.set(language.name, { child, workspace, command, used, directory });
    return true;
  }

  /**
   * The interpreter that can run a program, if one waits. It is the caller's then.
   *
   * @param command that would run the program, given the workspace that it must be in
   */
  take(
    language: Language,
    environment: Readonly<Record<string, string>>,
    command: (workspace: Workspace) => readonly string[],
  ): WarmChild | undefined {
    const waiting = this.#waiting.get(language.name);
    if (waiting === undefined) return undefined;
    if (!canStart(language, environment)) return undefined;
    const wanted = command(waiting.workspace);
    const same = waiting.command.slice(0, language.warm!.anyFile ? -1 : undefined);
    if (wanted.length !== waiting.command.length || same.some((word, i) => word !== wanted[i])) {
      return undefined;
    }
    this.#waiting.delete(language.name);
    this.#pids.delete(waiting.child.pid);
    return waiting;
  }
}

/** Whether an interpreter that waits already can run a program with these variables. */
export function canStart(
  language: Language,
  environment: Readonly<Record<string, string>>,
): boolean {
  return !Object.keys(environment).some((name) => language.warm?.startVariables.test(name));
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
