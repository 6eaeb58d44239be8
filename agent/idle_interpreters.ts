/**
 * Interpreters that started before there was a program and wait for one: at most one a language.
 *
 * @module
 */
import { execUserOf } from "./exec_user.ts";
import { Child, type ChildUsage } from "./child.ts";
import { encodeProgramStart, type ProgramStart } from "./hook_protocol.ts";
import { hookOf, type InterpreterHook } from "./interpreter_hooks.ts";
import { type InterpreterNeeds, sameNeeds } from "../workload/interpreter_needs.ts";
import type { Language } from "../workload/languages.ts";
import { prestartThreads } from "./prestart_threads.ts";
import { prefaultYoungGeneration } from "./scavenge.ts";
import { Workspace } from "./workspace.ts";

/** An interpreter that waits for its program. */
export interface IdleInterpreter {
  readonly child: Child;
  /** Where the program's files belong; those that the interpreter needs are there. */
  readonly workspace: Workspace;
  /** What it knows of the program. */
  readonly needs: InterpreterNeeds;
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
export class IdleInterpreters {
  readonly #idle = new Map<string, IdleInterpreter>();

  /** The last start under way or behind us, by language. */
  readonly #starts = new Map<string, Promise<unknown>>();
  readonly #pids = new Set<number>();

  /** Process ids of those that are idle or starting. */
  get pids(): ReadonlySet<number> {
    return this.#pids;
  }

  /**
   * Starts the language's interpreter and returns when it is idle. One that is idle for another
   * program is ended.
   *
   * @param needs what it must know of the program
   * @param directory absolute; nothing is there yet
   * @param environment of a program without variables of its own
   * @returns false when the language has no interpreter that can be idle
   */
  async add(
    language: Language,
    needs: InterpreterNeeds,
    directory: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    const { name } = language;
    const hook = hookOf(language);
    if (hook === undefined) return false;
    const added = (this.#starts.get(name) ?? Promise.resolve()).then(async () => {
      const idle = this.#idle.get(name);
      if (idle !== undefined) {
        if (sameNeeds(idle.needs, needs)) return true;
        this.#remove(language, idle);
        idle.child[Symbol.dispose]();
        await Deno.remove(idle.directory, { recursive: true });
      }
      return await this.#start(language, hook, needs, directory, environment);
    });
    this.#starts.set(name, added.catch(() => {}));
    return await added;
  }

  #remove({ name }: Language, { child }: IdleInterpreter): void {
    this.#idle.delete(name);
    this.#pids.delete(child.pid);
  }

  async #start(
    language: Language,
    hook: InterpreterHook,
    needs: InterpreterNeeds,
    directory: string,
    environment: Readonly<Record<string, string>>,
  ): Promise<boolean> {
    const { entryPoint, files } = needs;
    Deno.mkdirSync(directory);
    const workspace = Workspace.create(`${directory}/workload`, files);
    const path = `${directory}/${hook.fileName}`;
    Deno.writeTextFileSync(path, hook.text);
    const project = workspace.asProject([], { entryPoint, release: false });
    const start = hook.start(language.run({ ...project, files: [entryPoint] }), path);
    const user = execUserOf(""); // other users get an interpreter of their own
    const home = user === undefined ? {} : { HOME: user.home };
    let child: Child;
    try {
      child = Child.spawn({
        command: start.command,
        environment: { ...environment, ...home, ...start.environment },
        directory: workspace.project,
        user,
        stdin: true,
      });
    } catch { // the image does not have it, which running a program will say
      await Deno.remove(directory, { recursive: true });
      return false;
    }
    this.#pids.add(child.pid);
    const event = await child.next();
    if (event.kind !== "stdout") { // it could not start: a program would fail as well, and say why
      this.#pids.delete(child.pid);
      child[Symbol.dispose]();
      await Deno.remove(directory, { recursive: true });
      return false;
    }
    child.prefaultCode();
    prefaultYoungGeneration();
    await prestartThreads();
    const used = usedBy(child.pid);
    this.#idle.set(language.name, { child, workspace, needs, used, directory });
    return true;
  }

  /** The interpreter that can run a program with these needs, if it is idle. The caller owns it then. */
  take(language: Language, needs: InterpreterNeeds): IdleInterpreter | undefined {
    const idle = this.#idle.get(language.name);
    if (idle === undefined || !sameNeeds(idle.needs, needs)) return undefined;
    this.#remove(language, idle);
    return idle;
  }
}

/** Makes an idle interpreter run the program, whose files are in its workspace by now. */
export function startProgram({ child }: IdleInterpreter, start: ProgramStart): Child {
  void child.write(encodeProgramStart(start)); // were it dead, its exit status would say so
  return child;
}
