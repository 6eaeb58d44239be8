/**
 * Files of a run, written to this host.
 *
 * What comes is gathered beside its goal under a temporary name, and is moved there when the run has
 * ended: a file that is there is replaced, a directory gets the new files. The names are a guest's, so
 * nothing is written but below the goal, and no link is followed: one in the place of a file is
 * replaced, one in the place of a directory is an error.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "node:path";
import type { OutputPiece } from "../api/library/run.ts";
import { CloudletError, messageOf } from "../base/errors.ts";
import { type Temporary, temporaryIn, writeAllSync } from "../base/files.ts";

/** A file or directory of a run, and where it goes. */
export interface OutputGoal {
  /** In the run, relative to where the program runs. */
  readonly path: string;
  /** On this host. */
  readonly goal: string;
}

/**
 * Reads `PATH` or `PATH:GOAL`; a goal that ends with a slash is the directory of what is written.
 *
 * @throws {CloudletError} `invalid-input` for a path that leads upwards, and has no goal
 */
export function parseOutput(text: string): OutputGoal {
  const colon = text.indexOf(":");
  const path = colon < 0 ? text : text.slice(0, colon);
  const goal = colon < 0 ? path : text.slice(colon + 1);
  if (path === "" || goal === "" || (colon < 0 && goal.split("/").includes(".."))) {
    throw new CloudletError(`${JSON.stringify(text)} does not say where the file goes`, {
      code: "invalid-input",
      remedy: "write PATH:GOAL, such as out/report.html:report.html",
    });
  }
  return { path, goal: colon >= 0 && goal.endsWith("/") ? join(goal, basename(path)) : goal };
}

/**
 * Reads `SRC:DST`; a destination that ends with a slash is the directory of what is sent.
 *
 * @throws {CloudletError} `invalid-input`
 */
export function parseSent(text: string): readonly [path: string, source: string] {
  const colon = text.lastIndexOf(":"); // the host's name may have one in it
  if (colon <= 0 || colon === text.length - 1) {
    throw new CloudletError(`${JSON.stringify(text)} does not say where the file goes`, {
      code: "invalid-input",
      remedy: "write SRC:DST, such as data.csv:data/in.csv",
    });
  }
  const [source, path] = [text.slice(0, colon), text.slice(colon + 1)];
  return [path.endsWith("/") ? path + basename(resolve(source)) : path, source];
}

/** What is gathered for one goal. */
interface Gathered extends OutputGoal {
  readonly temporary: Temporary;
}

/** Gathers the files of a run, and puts them in their places at its end. */
export class OutputWriter implements Disposable {
  readonly #gathered: readonly Gathered[];
  readonly #stack: DisposableStack;

  /**
   * Begins; nothing is written yet where anybody looks.
   *
   * @throws {CloudletError} `host` when a goal's directory cannot be written to
   */
  constructor(goals: readonly OutputGoal[]) {
    using stack = new DisposableStack();
    this.#gathered = goals.map(({ path, goal }) => {
      try {
        return { path, goal, temporary: stack.use(temporaryIn(dirname(resolve(goal)))) };
      } catch (cause) {
        throw cannotWrite(goal, messageOf(cause), "name another place", cause);
      }
    });
    this.#stack = stack.move();
  }

  /**
   * Gathers a piece, whose path and order are checked (api/library/output_files.ts).
   *
   * @throws {CloudletError} `host` when there is no room
   */
  write({ path, mode, offset, data }: OutputPiece): void {
    const found = this.#gathered.find((one) => path === one.path || isBelow(path, one.path));
    if (found === undefined) return;
    const staged = join(found.temporary.path, path.slice(found.path.length));
    try {
      if (offset === 0) Deno.mkdirSync(dirname(staged), { recursive: true });
      using file = Deno.openSync(
        staged,
        offset === 0 ? { write: true, create: true, truncate: true } : { append: true },
      );
      writeAllSync(file, data);
      // The guest's bits, but for those that would keep us from moving it, or that the user masks.
      if (offset === 0) Deno.chmodSync(staged, (mode & ~Deno.umask()) | 0o600);
    } catch (cause) {
      throw cannotWrite(found.goal, messageOf(cause), "free some disk space", cause);
    }
  }

  /**
   * Puts everything in its place.
   *
   * @returns the paths of which nothing came
   * @throws {CloudletError} `host` where something else is in the way
   */
  finish(): string[] {
    const missing: string[] = [];
    for (const { path, goal, temporary } of this.#gathered) {
      const info = infoOf(temporary.path);
      if (info === undefined) missing.push(path);
      else place(temporary.path, info, resolve(goal));
    }
    return missing;
  }

  /** Removes what was not put in its place. */
  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

function isBelow(path: string, directory: string): boolean {
  return path.startsWith(directory.endsWith("/") ? directory : `${directory}/`);
}

/** Of a link, not of what it leads to. */
function infoOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Moves what was gathered to its goal. */
function place(staged: string, { isDirectory }: Deno.FileInfo, goal: string): void {
  const there = infoOf(goal);
  if (isDirectory && there !== undefined) {
    if (!there.isDirectory) {
      const what = there.isSymlink ? "a link" : "a file";
      throw cannotWrite(goal, `it is ${what}, in the place of a directory`, "move it away");
    }
    for (const { name } of Deno.readDirSync(staged)) {
      place(join(staged, name), Deno.lstatSync(join(staged, name)), join(goal, name));
    }
    return;
  }
  if (there?.isDirectory) {
    throw cannotWrite(goal, "it is a directory", `write ${goal}/ to put the file into it`);
  }
  try {
    Deno.renameSync(staged, goal); // replaces a file or a link, and follows none
  } catch (cause) {
    throw cannotWrite(goal, messageOf(cause), "name another place", cause);
  }
}

function cannotWrite(goal: string, why: string, remedy: string, cause?: unknown): CloudletError {
  // Names below the goal are the guest's: no control character of one may reach the terminal.
  const message = `Cannot write the output ${goal}: ${why}`.replaceAll(/\p{Cc}/gu, "?");
  return new CloudletError(message, {
    code: "host",
    remedy,
    cause,
  });
}
